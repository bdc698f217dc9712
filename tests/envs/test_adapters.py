"""Other projects' environments behind our interface."""

import sys

import brax.envs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Runner, envs, from_preset
from mjx_crossq.envs import adapters
from tests.learner import probes
from tests.learner.test_trainer import SMALL


class Falling:
  """Brax's interface without its base class: falls from 3, ends below 0.

  Its states hold a Python number and an integer reward, as others' may.
  """

  action_size = 2
  episode_length = 20

  def reset(self, rng):
    height = 3.0 + jax.random.uniform(rng)
    return brax.envs.State(
      None,
      jnp.array([height, 0.0]),
      jnp.float32(0),
      jnp.float32(0),
      {},
      {'n': 0},
    )

  def step(self, state, action):
    height = state.obs[0] - 1.0
    return state.replace(
      obs=jnp.stack([height, action[0]]),
      reward=jnp.int32(1),
      done=jnp.where(height < 0, 1.0, 0.0),
      info={'n': state.info['n'] + 1},
    )


class Dictionary(Falling):
  def reset(self, rng):
    state = super().reset(rng)
    return state.replace(obs={'state': state.obs})


class Nothing:
  """No environment."""


@pytest.fixture(scope='module')
def pendulum():
  return envs.load('brax:inverted_pendulum')


def test_brax_env_is_what_brax_says(pendulum):
  own = brax.envs.get_environment('inverted_pendulum', backend='mjx')
  assert pendulum.observation_size == own.observation_size == 4
  assert pendulum.action_size == own.action_size == 1
  assert pendulum.name == 'brax:inverted_pendulum'
  assert pendulum.terminates and pendulum.stock_env(0) is None

  def run(env):
    def step(state, action):
      state = env.step(state, action)
      return state, (state.obs, state.reward, state.done)

    actions = jax.random.uniform(jax.random.key(1), (40, 1), minval=-1.0)
    first = env.reset(jax.random.key(0))
    # Brax's own states are no fixed point of a loop's types.
    first = jax.tree.map(jnp.asarray, first)
    return (first.obs, *jax.lax.scan(step, first, actions)[1])

  ours, theirs = jax.jit(lambda: (run(pendulum), run(own)))()
  for a, b in zip(ours, theirs, strict=True):
    assert a.dtype == jnp.float32
    np.testing.assert_array_equal(a, b)
  assert ours[3].any()  # It fell.


def test_training_handles_its_terminations(pendulum):
  config = from_preset(
    'crossq_wn', **{**SMALL, 'task': pendulum.name, 'num_seeds': 1}
  )
  runner = Runner(config, pendulum)
  state, metrics = runner.train_chunk(runner.init(), 60)
  assert np.isfinite(metrics['critic_loss']).all()
  assert metrics['updates'].sum() > 0
  rows = state.replay[0]
  batch = runner.trainer.replay.sample(rows, jax.random.key(0), 512, 60)
  ended = np.asarray(batch.mask) == 0
  assert 0 < ended.sum() < 512
  # Where the pole leaves .2 rad, brax's rule, and only there, an episode ends.
  angle = np.abs(np.asarray(batch.next_obs)[:, 1])
  np.testing.assert_array_equal(ended, angle > 0.2)


def test_function_of_a_module():
  env = envs.load(f'{__name__}:Falling')
  assert (env.observation_size, env.action_size) == (2, 2)
  assert env.episode_length == 20
  config = from_preset('crossq_wn', **{**SMALL, 'task': env.name})
  runner = Runner(config, env)
  state, _ = runner.train_chunk(runner.init(), 30)
  # Four steps of 1, of which an action lasts two.
  np.testing.assert_array_equal(state.rollout.last_return, 4)
  assert isinstance(
    envs.load('tests.learner.probes:ConstantReward'), probes.ConstantReward
  )


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('brax:ants', 'There are: ant,'),
    ('no_such_module:make', 'module:function'),
    (f'{__name__}:no_such_function', 'no_such_function'),
    (f'{__name__}:', 'module:function'),
    (':make', 'module:function'),
    (f'{__name__}:Nothing', "no 'reset'"),
    (f'{__name__}:Dictionary', 'only vectors'),
  ],
)
def test_wrong_names_say_what_to_do(name, message):
  with pytest.raises(ValueError, match=message):
    envs.load(name)


def test_other_physics_is_refused(pendulum):
  with pytest.raises(ValueError, match="no physics 'warp'"):
    envs.load(f'{__name__}:Falling', physics='warp')


def test_missing_playground_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'mujoco_playground', None)
  with pytest.raises(ValueError, match='pip install playground'):
    envs.load('playground:CheetahRun')


@pytest.mark.slow
def test_playground_env_trains():
  pytest.importorskip('mujoco_playground')
  env = envs.load('playground:CartpoleBalance')
  assert env.episode_length == adapters.EPISODE_LENGTH
  config = from_preset(
    'crossq_wn', **{**SMALL, 'task': env.name, 'num_seeds': 1}
  )
  runner = Runner(config, env)
  _, metrics = runner.train_chunk(runner.init(), 30)
  assert np.isfinite(metrics['critic_loss']).all()
