"""Hours of training: SOAK_MINUTES=120 pytest tests/reliability/test_soak.py.

Saves have a test of their own here, because TensorStore keeps some memory of
each array that it writes; checkpoints are as rare as in a real run in the
long one, so that its bound on memory is one on all the rest.
"""

import gc
import os
import time

import jax
import numpy as np
import pytest

from mjx_crossq.device.budget import return_freed
from mjx_crossq.device.runner import Runner
from mjx_crossq.host import run as loop
from mjx_crossq.host.checkpoint import Checkpointer
from tests import memory
from tests.reliability import runs

MINUTES = float(os.environ.get('SOAK_MINUTES', '0'))


def resident():
  """Memory of this process in bytes, without what malloc could give back."""
  gc.collect()
  return_freed()
  return memory.resident()


@pytest.mark.slow
def test_a_save_keeps_no_more_than_tensorstore_does(tmp_path):
  runner = Runner(runs.config(replay_capacity=20_000), runs.env())
  state = runner.init()
  size = sum(x.nbytes for x in jax.tree.leaves(state)) / 2**20
  with Checkpointer(tmp_path / 'run') as checkpointer:
    for step in range(300):
      checkpointer.save(step, state)
      if step == 99:
        before = resident()
    checkpointer.wait()
  kept = (resident() - before) / 200 / 2**20
  print(f'{kept:.3f} MiB a save of {size:.1f} MiB')
  # tensorstore 0.1.86: some .17, whatever the size of the arrays.
  assert kept < 0.25 < size


@pytest.mark.slow
@pytest.mark.skipif(not MINUTES, reason='only with SOAK_MINUTES=...')
def test_memory_and_open_files_do_not_grow(tmp_path):
  samples, times = [], []
  end = time.monotonic() + 60 * MINUTES

  class OverError(Exception):
    """The time is up."""

  def sample(line):
    if 'env steps |' in line:
      times.append(time.monotonic())
      samples.append((resident(), len(os.listdir('/proc/self/fd'))))
    if time.monotonic() > end:
      raise OverError

  config = runs.config(
    env_steps=2_000_000_000,
    log_every=2_000,
    eval_every=10_000,
    checkpoint_every=100_000,
  )
  with pytest.raises(OverError):
    loop.train(config, runs.env(), workdir=tmp_path / 'run', report=sample)
  # The first fifth warms up: compilers, caches, the first saves.
  memory, files = np.array(samples[len(samples) // 5 :]).T
  half = len(memory) // 2
  early, late = np.median(memory[:half]), np.median(memory[half:])
  # A save in progress holds files open, so the median and not the largest.
  opened = np.median(files[:half]), np.median(files[half:])
  tenths = ' '.join(
    f'{np.median(part) / 2**20:.0f}' for part in np.array_split(memory, 10)
  )
  print(f'{len(samples)} samples; MiB by tenths {tenths}; files {opened}')
  seconds = np.diff(times[len(times) // 5 :])
  print(
    f'seconds a log point: {np.median(seconds[:half]):.3f} -> '
    f'{np.median(seconds[half:]):.3f}'
  )
  assert late < 1.02 * early
  assert opened[1] <= opened[0] + 2
