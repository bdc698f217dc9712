"""Names, errors, and what importing the package does and does not do."""

import json
import os
import subprocess
import sys

import pytest

from mjx_crossq import envs
from mjx_crossq.envs import suite
from tests.learner import probes


def _python(code, **variables):
  """Runs code in a fresh process and returns what it prints, from JSON."""
  result = subprocess.run(
    [sys.executable, '-c', code],
    env={**os.environ, **variables},
    capture_output=True,
    text=True,
    check=True,
  )
  return json.loads(result.stdout)


def test_deterministic_operations_are_asked_for_once():
  code = (
    'import json, os; from mjx_crossq.envs import runtime; '
    'runtime.make_deterministic(); '
    'runtime.make_deterministic(); import jax; jax.numpy.ones(1); '
    'print(json.dumps(os.environ["XLA_FLAGS"].split()))'
  )
  ours = '--xla_gpu_deterministic_ops=true'
  theirs = '--xla_cpu_enable_fast_math=false'
  assert _python(code, XLA_FLAGS=theirs) == [theirs, ours]
  assert _python(code, XLA_FLAGS='') == [ours]


@pytest.mark.parametrize(
  ('most', 'before', 'devices', 'flags'),
  [
    (1, '', 1, ''),
    (3, '', 3, '--xla_force_host_platform_device_count=3'),
    (
      9,
      '--xla_cpu_enable_fast_math=false',
      4,
      '--xla_cpu_enable_fast_math=false '
      '--xla_force_host_platform_device_count=4 '
      '--xla_cpu_multi_thread_eigen=false',
    ),
    (
      9,
      '--xla_force_host_platform_device_count=2',
      2,
      '--xla_force_host_platform_device_count=2',
    ),
  ],
)
def test_cores_become_devices(most, before, devices, flags):
  code = (
    'import json, os; from mjx_crossq.envs import runtime; '
    f'runtime.cores = lambda: 4; runtime.use_cores({most}); '
    'import jax; print(json.dumps('
    '[len(jax.devices()), os.environ["XLA_FLAGS"]]))'
  )
  found = _python(code, XLA_FLAGS=before, JAX_PLATFORMS='cpu')
  assert found == [devices, flags]


def test_the_whole_suite_is_there():
  stock = suite.import_stock('')
  assert {'-'.join(pair) for pair in stock.ALL_TASKS} <= set(envs.ALL_TASKS)
  assert len(stock.ALL_TASKS) == 51


def test_paper_tasks_are_tasks():
  assert set(envs.PAPER_TASKS) <= set(envs.ALL_TASKS)
  assert 'cheetah-run' in envs.PAPER_TASKS


def test_unknown_task_names_the_nearest():
  with pytest.raises(ValueError, match="'cheetah-run'"):
    envs.load('cheetah_run')
  with pytest.raises(ValueError, match="'cartpole-swingup'"):
    envs.load('cartpole-swing')
  with pytest.raises(ValueError, match='Did you mean'):
    envs.load('')


def test_unfaithful_tasks_are_refused_unless_allowed(monkeypatch):
  monkeypatch.setattr(envs, '_factories', {'rough-one': probes.Rough})
  with pytest.raises(ValueError, match=r'only a sketch.*--allow_unfaithful'):
    envs.load('rough-one')
  assert isinstance(envs.load('rough-one', allow_unfaithful=True), probes.Rough)


def test_register(monkeypatch):
  monkeypatch.setattr(envs, 'ALL_TASKS', envs.ALL_TASKS)
  monkeypatch.setattr(envs, '_factories', dict(envs._factories))
  marker = probes.Counter()
  envs.register('mine-easy', lambda: marker)
  assert envs.load('mine-easy') is marker
  assert envs.ALL_TASKS[-1] == 'mine-easy'
  with pytest.raises(ValueError, match='already'):
    envs.register('mine-easy', lambda: marker)


def test_import_is_light_and_quiet():
  loaded = _python(
    'from mjx_crossq import envs; import json, sys; '
    'print(json.dumps([m in sys.modules for m in ("jax", "mujoco")]))'
  )
  assert loaded == [False, False]
  # MJX would print that Warp is missing, and spoil the JSON.
  assert _python('import mjx_crossq.envs.suite; print(1)') == 1


def test_loading_needs_neither_learner_nor_extras():
  loaded = _python(
    'from mjx_crossq import envs; import json, sys; '
    'env = envs.load("pendulum-swingup"); '
    'names = ("mjx_crossq.envs.suite", "mjx_crossq.learner", "optax", '
    '"gymnasium");'
    'print(json.dumps([m in sys.modules for m in names]))'
  )
  assert loaded == [True, False, False, False]


def test_the_suite_needs_no_labmaze():
  """Which has no wheel for Python 3.13."""
  code = (
    'import json, sys; sys.modules["labmaze"] = None; '
    'from mjx_crossq import envs; env = envs.load("pendulum-swingup"); '
    'print(json.dumps(env.stock_env(0).reset().first()))'
  )
  assert _python(code) is True


def test_without_dm_control_a_line_says_how_it_is_installed(monkeypatch):
  monkeypatch.delitem(sys.modules, 'dm_control.suite', raising=False)

  def missing(name):
    raise ModuleNotFoundError(f'No module named {name!r}', name='dm_control')

  monkeypatch.setattr(suite.importlib, 'import_module', missing)
  with pytest.raises(ImportError, match='pip install --no-deps dm_control'):
    suite.import_stock('cheetah')
