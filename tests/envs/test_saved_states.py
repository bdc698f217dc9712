"""States that are saved and loaded: the next steps equal to the bit."""

import json
import multiprocessing
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mjx_crossq.envs import base, prng, reacher, suite
from tests.envs import checks

STEPS = 20
# cartpole: Runge-Kutta; hopper: sensors of the last solve; reacher: a target
# that is drawn; walker: contacts, a warm start and many physics steps.
TASKS = ('cartpole-swingup', 'hopper-hop', 'reacher-hard', 'walker-walk')


def bits(tree):
  """The leaves as NumPy arrays."""
  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


def assert_same(one, two):
  assert jax.tree.structure(one) == jax.tree.structure(two)
  for a, b in zip(bits(one), bits(two), strict=True):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


def actions(env, count=STEPS, seed=0):
  rng = np.random.RandomState(seed)
  return rng.uniform(-1, 1, (count, env.action_size)).astype(np.float32)


def middle(env, step, steps=40):
  """A state in mid-episode."""
  state = jax.jit(env.reset)(prng.key(3))
  for action in actions(env, steps, seed=1):
    state = step(state, action)
  return state


def follow(step, state, todo):
  """The states after each action."""
  found = []
  for action in todo:
    state = step(state, action)
    found.append(state)
  return found


def another(task) -> suite.SuiteEnv:
  """An environment that shares nothing with that of `checks.load`."""
  suite._compiled.clear()
  checks.load.cache_clear()
  return checks.load(task)


@pytest.mark.parametrize(
  'task',
  [
    pytest.param(task, marks=[pytest.mark.slow] * (task != TASKS[0]))
    for task in TASKS
  ],
)
def test_steps_from_a_loaded_state_are_the_same(task, tmp_path):
  env = checks.load(task)
  step = jax.jit(env.step)
  state = middle(env, step)
  np.savez(tmp_path / 'state.npz', **env.save_state(state))
  todo = actions(env)
  expected = follow(step, state, todo)

  again = another(task)
  with np.load(tmp_path / 'state.npz', allow_pickle=False) as stored:
    loaded = again.load_state(stored)
  assert isinstance(loaded, base.State)
  assert_same(loaded, state)
  for one, two in zip(
    expected, follow(jax.jit(again.step), loaded, todo), strict=True
  ):
    assert_same(one, two)
  if task.startswith('walker'):
    contact = state.pipeline_state._impl.contact
    assert (contact.dist < contact.includemargin).any(), 'nothing touches'
  # What `state_from` gives is not the same state: the tests above see it.
  if task.startswith(('hopper', 'walker')):
    fresh = env.state_from(state.qpos, state.qvel, state.act)
    after = follow(step, fresh, todo)
    assert any(
      (a.obs != b.obs).any() for a, b in zip(after, expected, strict=True)
    )


def test_states_of_many_environments():
  env = checks.load('cartpole-swingup')
  reset, step = jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step))
  todo = np.stack([actions(env, STEPS, seed) for seed in range(3)], 1)
  state = reset(jax.random.split(prng.key(0), 3))
  state = follow(step, state, todo)[-1]
  expected = follow(step, state, todo)
  for save, load in (
    (env.save_state, env.load_state),
    (jax.vmap(env.save_state), jax.vmap(env.load_state)),
    (jax.jit(jax.vmap(env.save_state)), env.load_state),
  ):
    arrays = save(state)
    assert arrays['obs'].shape == state.obs.shape
    loaded = load(arrays)
    assert_same(loaded, state)
  for one, two in zip(expected, follow(step, loaded, todo), strict=True):
    assert_same(one, two)
  # One of them, stepped alone and loaded alone.
  arrays = {
    name: x if name == 'task' else np.asarray(x)[1]
    for name, x in env.save_state(state).items()
  }
  assert_same(env.load_state(arrays), jax.tree.map(lambda x: x[1], state))


def test_nothing_of_a_state_is_left_out():
  """A state of other values, loaded over, has nothing of them left."""
  env = checks.load('reacher-hard')
  state = jax.jit(env.reset)(prng.key(0))
  arrays = env.save_state(state)
  leaves = jax.tree_util.tree_leaves_with_path(state)
  assert arrays.keys() == {'task'} | {
    jax.tree_util.keystr(path, simple=True, separator='.') for path, _ in leaves
  }
  assert {'obs', 'info.target', 'pipeline_state.qacc_warmstart'} <= set(arrays)
  # Each array alone changes what is loaded, and all it changes.
  for name, x in arrays.items():
    if name == 'task' or not np.size(x):
      continue
    x = np.asarray(x)
    other = ~x if x.dtype == bool else x + np.ones((), x.dtype)
    changed = env.save_state(env.load_state(arrays | {name: other}))
    for other_name, value in changed.items():
      expected = other if other_name == name else arrays[other_name]
      np.testing.assert_array_equal(value, expected, err_msg=other_name)


def _steps(task: str, path: str, todo: list[Any], out: str) -> None:
  """In a fresh process: steps from a saved state."""
  env = checks.load(task)
  with np.load(path, allow_pickle=False) as stored:
    state = env.load_state(stored)
  found = follow(jax.jit(env.step), state, np.float32(todo))
  with open(out, 'w') as file:
    json.dump([np.asarray(x.obs).view(np.uint32).tolist() for x in found], file)


@pytest.mark.slow
def test_a_fresh_process_takes_the_same_steps(tmp_path):
  env = checks.load('cartpole-swingup')
  step = jax.jit(env.step)
  state, todo = middle(env, step), actions(env)
  np.savez(tmp_path / 'state.npz', **env.save_state(state))
  process = multiprocessing.get_context('spawn').Process(
    target=_steps,
    args=(
      'cartpole-swingup',
      str(tmp_path / 'state.npz'),
      todo.tolist(),
      str(tmp_path / 'found.json'),
    ),
  )
  process.start()
  process.join()
  assert process.exitcode == 0
  found = json.loads((tmp_path / 'found.json').read_text())
  expected = follow(step, state, todo)
  np.testing.assert_array_equal(
    np.array(found, np.uint32),
    np.array([np.asarray(x.obs).view(np.uint32) for x in expected]),
  )


class Drawing(base.Env):
  """Keeps a key and a counter in its state."""

  name = 'drawing'
  action_size = 1
  observation_size = 1

  def reset(self, rng):
    zero = jnp.float32(0)
    info = {'key': rng, 'count': jnp.int32(0)}
    return base.State(None, jnp.zeros(1), zero, zero, {}, info)

  def step(self, state, action):  # pyright: ignore
    key, use = jax.random.split(state.info['key'])
    info = {'key': key, 'count': state.info['count'] + 1}
    obs = jax.random.normal(use, (1,)) + action
    return state.replace(obs=obs, info=info)  # pyright: ignore


def test_keys_and_counters():
  env = Drawing()
  step = jax.jit(env.step)
  state = follow(step, env.reset(prng.key(0)), np.zeros((3, 1)))[-1]
  arrays = jax.tree.map(np.asarray, env.save_state(state))
  assert arrays['info.key'].dtype == np.uint32
  loaded = Drawing().load_state(arrays)
  assert loaded.info['count'] == 3
  todo = np.zeros((5, 1))
  for one, two in zip(
    follow(step, state, todo), follow(step, loaded, todo), strict=True
  ):
    np.testing.assert_array_equal(one.obs, two.obs)
    assert one.info['key'] == two.info['key']


def _with(**changes):
  return lambda arrays: arrays | changes


def _without(name):
  return lambda arrays: {k: x for k, x in arrays.items() if k != name}


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (_without('info.target'), 'without info.target.*Give all arrays'),
    (_with(more=np.zeros(1)), 'with unknown more'),
    (_without('task'), 'without task'),
    (_with(obs=np.zeros(7, np.float32)), r'obs is of shape \(7,\).*\(6,\)'),
    (_with(obs=np.zeros((2, 6), np.float32)), 'same leading axes'),
    (_with(obs=np.zeros(6)), 'obs is float64, and float32'),
    (_with(reward=0.0), 'reward is float64, and float32'),
    (
      _with(task=np.frombuffer(b'reacher-easy', np.uint8)),
      'a saved state of reacher-easy, not of reacher-hard: load it into',
    ),
  ],
)
def test_what_is_not_a_saved_state(change, message):
  env = checks.load('reacher-hard')
  arrays = env.save_state(jax.eval_shape(env.reset, prng.key(0)))
  arrays = {
    k: x if k == 'task' else np.zeros(x.shape, x.dtype)
    for k, x in arrays.items()
  }
  env.load_state(arrays)
  with pytest.raises(ValueError, match=message):
    env.load_state(change(arrays))


def test_another_task_of_the_same_domain_is_refused():
  env = checks.load('reacher-hard')
  arrays = env.save_state(jax.jit(env.reset)(prng.key(0)))
  with pytest.raises(ValueError, match='reacher-hard, not of reacher-easy'):
    reacher.make('easy').load_state(arrays)


def test_stock_has_the_same():
  """C's integration state, and its first half step, repeat stock's steps."""
  env = checks.load('walker-walk')
  kind = mujoco.mjtState.mjSTATE_INTEGRATION
  todo = actions(env, 3 * STEPS)

  def episode(copy_at, complete=True):
    stock = env.stock_env(seed=0)
    stock.reset()
    found, touching = [], 0
    for index, action in enumerate(todo):
      if index == copy_at:
        old, stock = stock, env.stock_env(seed=1)
        stock.reset()
        touching = old.physics.data.ncon
        model, data = stock.physics.model.ptr, stock.physics.data.ptr
        if complete:
          saved = np.zeros(mujoco.mj_stateSize(model, kind))
          mujoco.mj_getState(model, old.physics.data.ptr, saved, kind)
          mujoco.mj_setState(model, data, saved, kind)
          mujoco.mj_step1(model, data)
        else:  # What dm_control saves: positions, velocities, activations.
          with stock.physics.reset_context():
            stock.physics.set_state(old.physics.get_state())
      stock.step(action)
      found.append(stock.physics.get_state())
    assert touching or copy_at < 0, 'nothing touches'
    return np.array(found)

  undisturbed = episode(copy_at=-1)
  np.testing.assert_array_equal(episode(2 * STEPS), undisturbed)
  assert (episode(2 * STEPS, complete=False) != undisturbed).any()
