"""Exported policies against the live one."""

import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from mjx_crossq import Agent, envs, from_preset
from mjx_crossq.learner.states import Network
from mjx_crossq.policy import export

TASK = 'reacher-easy'  # three parts of an observation, two actions
SIZES = {'critic_width': 8, 'actor_width': 16, 'task': TASK}
CASES = {
  'crossq_wn': ('crossq_wn', {}),
  'crossq': ('crossq', {}),
  'sac': ('sac', {}),
  'layer_norm': ('crossq_wn', {'normalization': 'layer'}),
  'xqc': ('xqc', {}),
  'flashsac': ('flashsac', {}),
  'bro': ('bro', {'actor_layers': 2}),
}


class Ranged:
  """The task, with bounds of actions that tell its sides and parts apart."""

  def __init__(self, env):
    self._env = env
    self.action_range = np.array([-2.0, 0.5]), np.array([1.0, 3.0])

  def __getattr__(self, name):
    return getattr(self._env, name)


@pytest.fixture(scope='module')
def env():
  return Ranged(envs.load(TASK))


def exporter_of(env, preset, changes):
  """Of a policy whose every number is drawn, variances included."""
  config = from_preset(preset, **(SIZES | changes))
  agent = Agent(config, env.observation_size, env.action_size)
  actor = agent.init(jax.random.key(0)).actor.network
  rng = np.random.default_rng(0)

  def drawn(path, x):
    if x.dtype.kind != 'f':
      return x
    noise = rng.normal(size=x.shape) * 0.3
    low = 0.5 if 'var' in jax.tree_util.keystr(path) else -np.inf
    return np.maximum(x + noise, low).astype(np.float32)

  network = jax.tree_util.tree_map_with_path(drawn, actor)
  return export.Exporter(
    config, env, Network(network.params, network.batch_stats), seed=7, step=40
  )


@pytest.mark.parametrize('case', CASES)
def test_every_file_acts_as_the_live_policy(env, case, tmp_path):
  exporter = exporter_of(env, *CASES[case])
  obs = np.random.default_rng(1).normal(size=(1000, env.observation_size))
  live = exporter.live(obs)
  low, high = env.action_range
  assert live.shape == (1000, 2)
  assert (live >= low).all() and (live <= high).all()
  assert (live.std(axis=0) > 0.02 * (high - low)).all()
  for name in export.FORMATS:
    act = getattr(exporter, name)(tmp_path)
    assert exporter.check(act, obs, name) <= export.TOLERANCE
    with pytest.raises(export.ExportError, match=f'{name} differs'):
      exporter.check(lambda x, act=act: act(x) + 1e-3, obs, name)


def test_numpy_policy_takes_stock_observations(env, tmp_path):
  exporter = exporter_of(env, *CASES['crossq_wn'])
  policy = exporter.numpy(tmp_path)
  timestep = env.stock_env(0).reset()
  parts = timestep.observation
  flat = np.concatenate([np.ravel(part) for part in parts.values()])
  action = policy(parts)
  np.testing.assert_array_equal(action, policy(flat))
  backwards = dict(reversed(parts.items()))
  np.testing.assert_array_equal(action, policy(backwards))
  assert action.shape == (2,) and action.dtype == np.float64
  assert [name for name, _ in policy.meta['observation']] == list(parts)
  del backwards['to_target']
  with pytest.raises(ValueError, match='lacks to_target'):
    policy(backwards)
  with pytest.raises(ValueError, match='observes 6 numbers'):
    policy(flat[:-1])


def test_folder_needs_numpy_alone(env, tmp_path):
  exporter = exporter_of(env, *CASES['crossq_wn'])
  exporter.numpy(tmp_path)
  code = (
    'import json, sys, numpy as np\n'
    'import numpy_policy\n'
    'policy = numpy_policy.Policy("policy.npz")\n'
    'action = policy(np.arange(6) / 10)\n'
    'foreign = {"jax", "flax", "mjx_crossq", "mujoco"} & set(sys.modules)\n'
    'print(json.dumps([action.tolist(), sorted(foreign), policy.meta]))\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
  )
  action, foreign, meta = json.loads(done.stdout)
  live = exporter.live(np.arange(6)[None] / 10)[0]
  np.testing.assert_allclose(action, live, atol=1e-5)
  assert foreign == []
  assert (meta['task'], meta['seed'], meta['env_step']) == (TASK, 7, 40)


def test_unknown_layers_are_refused(env, tmp_path):
  exporter = exporter_of(env, *CASES['sac'])
  exporter.layers.append(('sine', {}))
  with pytest.raises(ValueError, match="'sine' needs a newer"):
    exporter.numpy(tmp_path)(np.zeros(6))
