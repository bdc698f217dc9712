"""`SuiteEnv` as a citizen of JAX: nested vmap, jit, scan."""

import jax
import numpy as np
import pytest

from . import checks

# Cheap to compile, and one with episode parameters.
cheap = pytest.mark.parametrize(
  'task',
  ('pendulum-swingup', pytest.param('reacher-easy', marks=pytest.mark.slow)),
)


@cheap
def test_batches_equal_singles_in_loops(task):
  """Seeds x envs by nested vmap inside jit and scan, against one by one."""
  env = checks.load(task)
  keys = jax.random.split(jax.random.key(0), (2, 3))
  rng = np.random.RandomState(0)
  shape = (5, 2, 3, env.action_size)
  actions = rng.uniform(-1, 1, shape).astype(np.float32)
  step = jax.vmap(jax.vmap(env.step))

  @jax.jit
  def rollout(keys, actions):
    def body(state, action):
      state = step(state, action)
      return state, (state.obs, state.reward, state.done)

    start = jax.vmap(jax.vmap(env.reset))(keys)
    return jax.lax.scan(body, start, actions)

  final, (obs, reward, done) = rollout(keys, actions)
  assert final.obs.shape == (2, 3, env.observation_size)
  assert not done.any()
  for i, j in ((0, 0), (1, 2)):
    state = env.reset(keys[i, j])
    for t in range(len(actions)):
      state = env.step(state, actions[t, i, j])
      np.testing.assert_allclose(obs[t, i, j], state.obs, atol=1e-5)
      np.testing.assert_allclose(reward[t, i, j], state.reward, atol=1e-5)


@cheap
def test_reset_is_state_from_a_draw(task):
  env = checks.load(task)
  key = jax.random.key(3)
  state = env.reset(key)
  initial = env.initial(key)
  np.testing.assert_array_equal(state.qpos, initial.qpos)
  again = env.state_from(state.qpos, state.qvel, state.act, initial.params)
  np.testing.assert_array_equal(state.obs, again.obs)
  assert not np.array_equal(state.obs, env.reset(jax.random.key(4)).obs)
