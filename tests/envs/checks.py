"""The checks that every domain passes, against stock dm_control.

Each domain has a test file of its own, so that `pytest -n 2 --dist loadfile`
compiles its physics in one process only; tasks of a domain share them.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import smooth

from mjx_crossq import envs
from mjx_crossq.envs import base, dm, suite
from mjx_crossq.envs.mjx import contacts as contacts_lib
from mjx_crossq.envs.mjx import corrections
from mjx_crossq.envs.parity import bounds
from mjx_crossq.envs.parity import measures as parity


@functools.cache
def load(task: str, physics: str = 'mjx') -> suite.SuiteEnv:
  env = envs.load(task, allow_unfaithful=True, physics=physics)
  assert isinstance(env, suite.SuiteEnv)
  return env


@functools.cache
def records(task: str) -> parity.Records:
  return parity.collect(load(task))


@functools.cache
def states(task: str) -> Any:
  return parity.start(load(task), records(task))


def contacts(
  model: mujoco.MjModel,
  qpos: np.ndarray,
  driver: Callable[[Any, Any], Any] = contacts_lib.collision,
) -> Any:
  """Contacts of poses `(n, nq)` of a C model."""
  corrections.install()
  mjx_model = mjx.put_model(model, impl='jax')
  empty = mjx.make_data(model, impl='jax')

  @jax.jit
  @jax.vmap
  def collide(qpos):
    data = smooth.kinematics(mjx_model, empty.replace(qpos=qpos))
    return driver(mjx_model, data)._impl.contact

  return collide(jp.asarray(qpos, jp.float32))


def types(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


def from_solve(env: suite.SuiteEnv) -> np.ndarray:
  """Which entries of the observation are read from the last solve."""
  spec = env.stock_env(0).observation_spec()
  assert set(env.from_solve) <= set(spec)
  return np.concatenate(
    [np.full(x.shape, k in env.from_solve).ravel() for k, x in spec.items()]
  )


def assert_stocks_height(env, terrains, poses):
  """Stock's search finds quadruped-escape's height in each terrain."""
  stock = env.stock_env(0)
  stock.reset()
  search = suite.import_stock('quadruped')._find_non_contacting_height
  for terrain, pose in zip(
    np.asarray(terrains), np.asarray(poses), strict=True
  ):
    env.write_params(stock.physics, {'terrain': terrain})
    search(stock.physics, pose[3:7])
    np.testing.assert_allclose(pose, stock.physics.data.qpos, atol=1e-6)


class StockParity:
  """Checks of each task of `domain`."""

  domain: str | None = None
  # Tasks that have tests of their own instead.
  others: tuple[str, ...] = ()
  # Tasks with a model of their own, and those that only `make test-all` checks.
  models: tuple[str, ...] = ()
  slow: tuple[str, ...] = ()
  # From stock and from us for the test of the initial distribution.
  draws = 2000

  def test_spec_equals_stock(self, task):
    env = load(task)
    stock = env.stock_env(seed=0)
    spec = stock.action_spec()
    low, high = env.action_range
    # Not bounded in lqr.
    bounded, f32 = np.abs(spec.maximum) < 1e9, np.float32
    np.testing.assert_array_equal(low, f32(np.where(bounded, spec.minimum, -1)))
    np.testing.assert_array_equal(high, f32(np.where(bounded, spec.maximum, 1)))
    assert env.action_size == spec.shape[0]
    assert env.name == task
    assert env.control_timestep == stock.control_timestep()
    timestep = stock.reset()
    steps = 0
    while not timestep.last() and steps < 1000:
      timestep = stock.step(np.zeros(spec.shape))
      steps += 1
    assert env.episode_length == steps
    size = suite.base.flatten_observation(timestep.observation).size
    assert env.observation_size == size

  def test_dm_env_has_stocks_specs(self, task):
    ours, stock = dm.Environment(load(task)), load(task).stock_env(seed=0)
    assert list(ours.observation_spec()) == list(stock.observation_spec())
    for name, spec in stock.observation_spec().items():
      assert repr(ours.observation_spec()[name]) == repr(spec)
    assert ours.control_timestep() == stock.control_timestep()
    assert ours.reward_spec() == stock.reward_spec()
    assert ours.discount_spec() == stock.discount_spec()
    if task.startswith('lqr'):  # Not bounded in stock.
      assert ours.action_spec().shape == stock.action_spec().shape
      assert (ours.action_spec().maximum == 1).all()
    else:
      assert repr(ours.action_spec()) == repr(stock.action_spec())

  def test_step_keeps_structure_and_types(self, task):
    env = load(task)  # Abstract evaluation: traced, not compiled.
    reset = jax.eval_shape(env.reset, jax.random.key(0))
    state = jax.eval_shape(env.state_from, reset.qpos, reset.qvel, reset.act)
    action = jax.ShapeDtypeStruct((env.action_size,), jp.float32)
    after = jax.eval_shape(env.step, reset, action)
    assert isinstance(after, base.State)
    for other in (state, after):
      assert jax.tree.structure(other) == jax.tree.structure(reset)
      assert jax.tree.leaves(types(other)) == jax.tree.leaves(types(reset))
    for leaf in jax.tree.leaves(reset):
      assert not leaf.weak_type
      assert leaf.dtype in (jp.float32, jp.int32, jp.bool_, jp.uint8)
    assert reset.obs.shape == (env.observation_size,)
    assert reset.reward.shape == reset.done.shape == ()
    assert reset.metrics == {}

  def test_state_from_equals_stock(self, task):
    stock = records(task)
    assert len(stock) >= 200
    # The comparison of rewards is empty if stock pays the same everywhere.
    assert len(np.unique(stock.reward)) > 1
    errors = parity.state_errors(states(task), stock)
    solved = from_solve(load(task))
    assert errors.obs[:, ~solved].max() < bounds.STATE
    solve = errors.obs[:, solved].max(axis=1, initial=0)
    assert np.quantile(solve, 0.99) < bounds.of(task).solve
    assert errors.reward.max() < bounds.STATE

  def test_step_equals_stock(self, task):
    """Also that new positions come with the last solve's forces."""
    errors = parity.step_errors(load(task), states(task), records(task))
    assert np.median(errors.obs) < 1e-6
    assert np.quantile(errors.obs, 0.99) < bounds.of(task).step
    assert np.quantile(errors.reward, 0.99) < 1e-5

  def test_control_steps_equal_c(self, model_task):
    """One control step, and at least 25 physics steps.

    One task stands for all that share its model.
    """
    steps, bound = load(model_task).substeps, bounds.of(model_task)
    self.check_physics(
      model_task, steps * -(-25 // steps), steps, bound.v_control or bound.v1
    )

  @pytest.mark.slow
  def test_physics_steps_equal_c(self, model_task):
    """v1 and v25 as `physics.md` has them; another compilation, often."""
    self.check_physics(model_task, 25, 1, bounds.of(model_task).v1)

  def check_physics(self, task, horizon, chunk, short_bound):
    errors = parity.physics_errors(
      load(task), states(task), records(task), horizon, chunk
    )
    long_bound = bounds.of(task).v25
    for name, (median, high) in (
      (f'v{chunk}', short_bound),
      (f'v{horizon}', long_bound),
    ):
      assert np.median(errors[name]) < median, name
      assert np.quantile(errors[name], 0.99) < high, name

  def test_initial_distribution_equals_stock(self, task):
    self.check_initial(task, self.draws)

  def check_initial(self, task, draws):
    pvalues = parity.initial_pvalues(load(task), draws)
    model = load(task).mj_model
    assert len(pvalues) >= model.nq + model.nv
    worst = min(pvalues, key=pvalues.__getitem__)
    # Bonferroni: one in a thousand for the whole task.
    assert pvalues[worst] > bounds.PVALUE / len(pvalues), worst
