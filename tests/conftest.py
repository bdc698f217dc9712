"""Settings of every test process, made before JAX starts."""

import gc
import importlib.metadata
import os
from pathlib import Path

# Both workers and the processes they start share compiled programs.
_CACHE = Path(__file__).resolve().parent.parent / '.jax_cache'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
os.environ.setdefault('MUJOCO_GL', 'disabled')


def _quick_to_compile(level):
  """Flags of XLA with which tests wait less for it; programs run slower."""
  flags = [f'--xla_backend_optimization_level={level}']
  # XLA ends a process that has a flag which its version does not know.
  if importlib.metadata.version('jaxlib').startswith('0.10.'):
    flags.append('--xla_cpu_use_fusion_emitters=false')
    # The workers keep the cores busy.
    flags.append('--xla_cpu_parallel_codegen_split_count=1')
  return ' '.join(flags)


import jax  # noqa: E402
import pytest  # noqa: E402

from mjx_crossq.device import budget  # noqa: E402
from tests import memory  # noqa: E402

# Each collection would look at all modules.
gc.freeze()

_SLOW_SECONDS = 5400
_LARGE = 3 * 2**30  # bytes of a worker
_LONGEST = (
  'learner/test_learning.py',
  # Those that need most memory, in workers that hold nothing else yet.
  'envs/test_dog.py',
  'envs/test_dog_fetch.py',
  'envs/test_warp.py',
  'reliability/test_thread_pools.py',
  'launch/test_reproduce.py',
  'launch/test_train.py',
  'reliability/test_kills.py',
  'envs/test_float64.py',
  'learner/test_probes.py',
  'envs/test_quadruped.py',
  'envs/test_humanoid.py',
  'learner/test_vary.py',
  'devices/test_seeds_on_devices.py',
  'devices/test_data_parallel.py',
  'learner/test_optimism.py',
  'envs/test_finger.py',
  'launch/test_benchmark.py',
)
"""Files that take a minute or more (`--durations=0`), the longest first."""


def pytest_collection_modifyitems(items):
  """The longest files first, so that the short ones fill the gaps."""
  first = {f'tests/{name}': rank for rank, name in enumerate(_LONGEST)}
  items.sort(key=lambda x: first.get(x.nodeid.split('::')[0], len(first)))
  for item in items:
    if item.get_closest_marker('slow'):
      item.add_marker(pytest.mark.timeout(_SLOW_SECONDS))


def pytest_collection_finish(session):
  """Chooses XLA's flags; no module may have started it while it was imported.

  Slow tests run for longer than they compile, most others do not.
  """
  slow = all(item.get_closest_marker('slow') for item in session.items)
  os.environ.setdefault('XLA_FLAGS', _quick_to_compile(level=int(slow)))


@pytest.fixture(scope='module', autouse=True)
def forget_programs():
  """A worker runs many modules: what they compiled would stay in memory.

  Linux bounds the memory mappings of a process too, of which each compiled
  program has hundreds; with too many, LLVM aborts the process.
  """
  yield
  _forget()


@pytest.fixture(autouse=True)
def bounded_memory():
  """Dog's programs fill 2 GiB; a test finds what it needs again on the disk."""
  yield
  if memory.resident() > _LARGE:
    _forget()


def _forget():
  jax.clear_caches()
  budget.return_freed()
