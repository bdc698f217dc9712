"""Memory: predicted, refused before compilation, explained when it ends."""

import ctypes
import json
import os
import platform
import subprocess
import sys

import jax
import pytest

from mjx_crossq import ConfigError, Runner
from mjx_crossq.device import budget
from mjx_crossq.host import run as loop
from tests import memory
from tests.reliability import runs

MEASURE = """
import gc, json
import jax
from mjx_crossq import Runner
from mjx_crossq.device import budget
from tests import memory
from tests.reliability import runs

def resident():
  gc.collect()
  return memory.resident()

# Compiling takes memory of its own: a small run compiles the same programs.
runner = Runner(runs.config(), runs.env())
state, _ = runner.train_chunk(runner.init(), 6)
jax.block_until_ready(state)
runner = Runner(runs.config(replay_capacity=20_000_000), runs.env())
predicted = budget.Budget.of(runner.abstract_state()).total
step = runner.lower_train_chunk().compile()
before = resident()
state, _ = step(runner.init(), jax.numpy.int32(6), runner.zero_sums())
jax.block_until_ready(state)
print(json.dumps([predicted, resident() - before]))
"""


@pytest.mark.slow
@pytest.mark.skipif(
  not os.path.exists('/proc/self/statm'), reason='no /proc here'
)
def test_the_prediction_is_what_the_process_takes():
  done = subprocess.run(
    [sys.executable, '-c', MEASURE],
    capture_output=True,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  predicted, taken = json.loads(done.stdout.splitlines()[-1])
  assert predicted > 500 * 2**20
  assert abs(taken - predicted) < 0.1 * predicted


def test_what_cannot_fit_is_refused_before_anything_is_compiled(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(budget, 'available_memory', lambda: 10**6)
  monkeypatch.setattr(Runner, 'init', None)
  config = runs.config(replay_capacity=1_000_000)
  with pytest.raises(ConfigError, match='lower replay_capacity'):
    loop.train(config, runs.env(), workdir=tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_a_tpu_pads_its_arrays_to_whole_tiles():
  config = runs.config(num_seeds=2)
  of = {}
  for name in ('cpu', 'gpu', 'tpu'):
    state = Runner(config, runs.env(), platform=name).abstract_state()
    of[name] = budget.Budget.of(state, platform=name)
    assert of[name].available is None
  assert of['cpu'] == of['gpu']
  assert of['tpu'].replay == 2 * config.replay_rows * 128 * 4
  assert of['tpu'].agent > of['cpu'].agent


@pytest.mark.parametrize(
  'error',
  [
    jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Out of memory\nmore'),
    MemoryError('no'),
  ],
)
def test_out_of_memory_says_what_to_lower(monkeypatch, error):
  def fails(*_):
    raise error

  monkeypatch.setattr(Runner, 'init', fails)
  with pytest.raises(budget.OutOfMemoryError, match='lower num_seeds') as found:
    loop.train(runs.config(), runs.env(), report=lambda _: None)
  assert '\n' not in str(found.value)


def test_other_errors_of_the_device_stay_what_they_are(monkeypatch):
  def fails(*_):
    raise jax.errors.JaxRuntimeError('INTERNAL: a bug')

  monkeypatch.setattr(Runner, 'init', fails)
  with pytest.raises(jax.errors.JaxRuntimeError, match='a bug'):
    loop.train(runs.config(), runs.env(), report=lambda _: None)


@pytest.mark.skipif(platform.libc_ver()[0] != 'glibc', reason='no glibc')
def test_freed_memory_goes_back_to_the_system():
  libc = ctypes.CDLL(None)
  libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
  budget.return_freed()  # so that the blocks find no room
  before = memory.resident()
  blocks = [ctypes.c_void_p(libc.malloc(20_000)) for _ in range(10_000)]
  for block in blocks:
    libc.memset(block, 1, 20_000)
  for block in blocks[:-1]:  # the last one holds the heap's end
    libc.free(block)
  assert memory.resident() > before + 150 * 2**20
  budget.return_freed()
  assert memory.resident() < before + 50 * 2**20
  libc.free(blocks[-1])
