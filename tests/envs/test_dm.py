"""Tasks as dm_env's environments, beside stock dm_control."""

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import absltest
from dm_env import test_utils

from mjx_crossq import envs
from mjx_crossq.envs import base, dm
from mjx_crossq.envs.parity import bounds

from . import checks


def short(task, length):
  env = envs.load(task)
  env.episode_length = length
  return env


class TestContract(test_utils.EnvironmentTestMixin, absltest.TestCase):
  """dm_env's own tests, over the end of an episode."""

  task = None

  def make_object_under_test(self):
    if self.task is None:
      TestContract.task = short('pendulum-swingup', 6)
    return dm.Environment(self.task, seed=0)


class Fall(base.Env):
  """Ends by itself at the second step; a later obs is the action."""

  name, episode_length, terminates = 'fall', 3, True
  observation_size = action_size = 1
  action_range = (np.array([-2.0]), np.array([4.0]))

  def reset(self, rng):
    draw = jax.random.uniform(rng, (1,))
    return base.State(None, draw, jnp.float32(0), jnp.float32(0))

  def step(self, state, action):
    done = state.reward + 1 >= 2
    return state.replace(
      obs=action, reward=state.reward + 1, done=jnp.float32(done)
    )


@pytest.mark.parametrize(
  'task',
  ['point_mass-hard', 'reacher-easy', 'lqr-lqr_2_1'],
)
def test_first_steps_equal_stock(task):
  mirror = checks.load(task)
  stock, ours = mirror.stock_env(seed=3), dm.Environment(mirror)
  rng = np.random.default_rng(0)
  spec = ours.action_spec()
  assert ours.physics.data.time == 0  # It is there before the first episode.
  for _ in range(5):
    theirs = stock.reset()
    data, params = stock.physics.data, mirror.read_params(stock.physics)
    state = mirror.state_from(data.qpos, data.qvel, data.act, params)
    first = ours.restart(state)
    assert first.first() and first.reward is first.discount is None
    action = rng.uniform(spec.minimum, spec.maximum)
    for mine, other, bound in (
      (first, theirs, bounds.STATE),
      (ours.step(action), stock.step(action), bounds.of(task).step),
    ):
      assert list(mine.observation) == list(other.observation)
      for key, value in other.observation.items():
        assert mine.observation[key].dtype == np.asarray(value).dtype
        np.testing.assert_allclose(
          mine.observation[key], value, rtol=bound, atol=bound
        )
    assert mine.mid() and mine.discount == other.discount == 1.0
    np.testing.assert_allclose(mine.reward, other.reward, atol=1e-5)
    # What it would render is where it is.
    physics = ours.physics
    np.testing.assert_array_equal(physics.data.qpos, ours._state.qpos)
    for key, value in mirror.read_params(physics).items():
      np.testing.assert_allclose(value, params[key], rtol=1e-6)
    seen = ours._stock.task.get_observation(physics)
    for key, value in seen.items():
      np.testing.assert_allclose(mine.observation[key], value, atol=1e-5)


def test_time_limit_is_stocks():
  env = short('pendulum-swingup', 4)
  limited = dm.Environment(env)
  steps = [limited.step([0.0]) for _ in range(10)]
  first, mid, last = dm_env.StepType
  assert [s.step_type for s in steps] == 2 * [first, mid, mid, mid, last]
  # Not a termination: what follows is worth what it is worth.
  assert [s.discount for s in steps] == 2 * [None, 1.0, 1.0, 1.0, 1.0]


def test_terminations_and_actions():
  env = dm.Environment(Fall())
  assert env.reset().first()
  np.testing.assert_array_equal(env.step([-2.0]).observation[dm._FLAT], [-1.0])
  last = env.step([2.5])
  np.testing.assert_array_equal(last.observation[dm._FLAT], [0.5])
  assert last.last() and last.discount == 0.0 and last.reward == 2.0
  assert env.step([0.0]).first()
  # At the limit stock says 1, even where the task ends by itself.
  env.task.episode_length = 2
  env.step([0.0])
  assert env.step([0.0]).discount == 1.0
  with pytest.raises(ValueError, match='no task of dm_control'):
    env.control_timestep()


def test_seeds_decide_the_initial_states():
  def draw(seed):
    env = dm.Environment(Fall(), seed)
    return [float(env.reset().observation[dm._FLAT][0]) for _ in range(2)]

  assert draw(1) == draw(1)
  assert len({*draw(1), *draw(2), *draw(None), *draw(None)}) == 8
