"""`SuiteEnv` as a citizen of JAX: structure, types, vmap, scan."""

import jax
import jax.numpy as jp
import numpy as np
import pytest

import envs
from envs import base

from . import measured

# Cheap to compile; one with an integrator loop, one with episode parameters.
_CHEAP = ('pendulum-swingup', 'cartpole-swingup', 'reacher-easy')
_ALL = tuple(
  pytest.param(task, marks=pytest.mark.xdist_group(task.split('-')[0]))
  for task in envs.ALL_TASKS
)
cheap = pytest.mark.parametrize(
  'task', [p for p in _ALL if p.values[0] in _CHEAP]
)


def _types(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


@pytest.mark.parametrize('task', _ALL)
def test_step_keeps_structure_and_types(task):
  # Abstract evaluation: traced, not compiled.
  env = measured.env(task)
  reset = jax.eval_shape(env.reset, jax.random.key(0))
  state = jax.eval_shape(env.state_from, reset.qpos, reset.qvel, reset.act)
  action = jax.ShapeDtypeStruct((env.action_size,), jp.float32)
  after = jax.eval_shape(env.step, reset, action)
  assert isinstance(after, base.State)
  for other in (state, after):
    assert jax.tree.structure(other) == jax.tree.structure(reset)
    assert jax.tree.leaves(_types(other)) == jax.tree.leaves(_types(reset))
  for leaf in jax.tree.leaves(reset):
    assert not leaf.weak_type
    assert leaf.dtype in (jp.float32, jp.int32, jp.bool_, jp.uint8)
  assert reset.obs.shape == (env.observation_size,)
  assert reset.reward.shape == reset.done.shape == ()
  assert reset.metrics == {}


@cheap
def test_batches_equal_singles_in_loops(task):
  """Seeds x envs by nested vmap inside jit and scan, against one by one."""
  env = measured.env(task)
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
  single_reset, single_step = jax.jit(env.reset), jax.jit(env.step)
  for i, j in ((0, 0), (1, 2)):
    state = single_reset(keys[i, j])
    for t in range(len(actions)):
      state = single_step(state, actions[t, i, j])
      np.testing.assert_allclose(obs[t, i, j], state.obs, atol=1e-5)
      np.testing.assert_allclose(reward[t, i, j], state.reward, atol=1e-5)


@cheap
def test_reset_is_state_from_a_draw(task):
  env = measured.env(task)
  key = jax.random.key(3)
  state = env.reset(key)
  qpos, qvel, params = env.initial(key)
  np.testing.assert_array_equal(state.qpos, qpos)
  np.testing.assert_array_equal(state.qvel, qvel)
  again = env.state_from(state.qpos, state.qvel, state.act, params)
  np.testing.assert_array_equal(state.obs, again.obs)
  assert not np.array_equal(state.obs, env.reset(jax.random.key(4)).obs)


@pytest.mark.xdist_group('cartpole')
def test_actions_are_clipped_and_foreign_info_survives():
  env = measured.env('cartpole-swingup')
  state = env.reset(jax.random.key(0))
  state = state.replace(
    info={'wrapper': jp.ones(2)}, metrics={'m': jp.ones(())}
  )
  beyond = env.step(state, jp.array([7.0]))
  edge = env.step(state, jp.array([1.0]))
  np.testing.assert_array_equal(beyond.obs, edge.obs)
  np.testing.assert_array_equal(beyond.info['wrapper'], state.info['wrapper'])
  assert beyond.metrics.keys() == {'m'}


@pytest.mark.xdist_group('reacher')
def test_target_stays_for_the_episode_and_state_from_sets_it():
  env = measured.env('reacher-easy')
  state = env.reset(jax.random.key(0))
  after = env.step(state, jp.ones(2))
  np.testing.assert_array_equal(state.info['target'], after.info['target'])
  target = jp.array([0.1, -0.05])
  moved = env.state_from(state.qpos, state.qvel, params={'target': target})
  shift = moved.obs[2:4] - state.obs[2:4]
  np.testing.assert_allclose(shift, target - state.info['target'], atol=1e-6)
