"""The checks that every domain passes, against stock dm_control.

Each domain has a test file of its own, so that `pytest -n 2 --dist loadfile`
compiles its physics in one process only; tasks of a domain share them.

Bounds are for float32 physics. Medians and 99 % quantiles are bounded rather
than the maxima: in a few of 300 states a geom comes within float32's resolution
of touching, and the contact acts one physics step earlier or later than in C.
In float64 the same code agrees with C to 1e-12, see `test_float64.py`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jp
import numpy as np
import pytest

import envs
from envs import base, parity, suite


@functools.cache
def load(task: str) -> suite.SuiteEnv:
  env = envs.load(task)
  assert isinstance(env, suite.SuiteEnv)
  return env


@functools.cache
def records(task: str) -> parity.Records:
  return parity.collect(load(task))


@functools.cache
def states(task: str) -> Any:
  return parity.start(load(task), records(task))


def types(tree):
  return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)


class StockParity:
  """Checks of each task of `domain`."""

  domain: str | None = None
  # 99 % quantile of the errors of observations after one control step.
  step_bound: float
  # Median and 99 % of the velocity's error after one physics step, after a
  # control step (where that is another), and after 25 physics steps or more.
  v1: tuple[float, float]
  v_control: tuple[float, float] | None = None
  v25: tuple[float, float]
  # From stock and from us for the test of the initial distribution.
  draws = 2000

  def test_spec_equals_stock(self, task):
    env = load(task)
    stock = env.stock_env(seed=0)
    spec = stock.action_spec()
    low, high = env.action_range
    np.testing.assert_array_equal(low, spec.minimum)
    np.testing.assert_array_equal(high, spec.maximum)
    assert env.action_size == spec.shape[0]
    assert env.name == task
    assert env.control_timestep == stock.control_timestep()
    timestep = stock.reset()
    steps = 0
    while not timestep.last():
      timestep = stock.step(np.zeros(spec.shape))
      steps += 1
    assert env.episode_length == steps
    size = suite.base.flatten_observation(timestep.observation).size
    assert env.observation_size == size

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
    solved = self._from_solve(task)
    assert errors.obs[:, ~solved].max() < 1e-5
    assert errors.obs[:, solved].max(initial=0) < 1e-3
    assert errors.reward.max() < 1e-5

  def _from_solve(self, task):
    """Which entries of the observation are read from the last solve."""
    env = load(task)
    spec = env.stock_env(0).observation_spec()
    assert set(env.from_solve) <= set(spec)
    return np.concatenate(
      [np.full(x.shape, k in env.from_solve).ravel() for k, x in spec.items()]
    )

  def test_step_equals_stock(self, task):
    """Also that new positions come with the last solve's forces."""
    errors = parity.step_errors(load(task), states(task), records(task))
    assert np.median(errors.obs) < 1e-6
    assert np.quantile(errors.obs, 0.99) < self.step_bound
    assert np.quantile(errors.reward, 0.99) < 1e-5

  def test_control_steps_equal_c(self):
    """One control step, and at least 25 physics steps.

    One task of the domain stands for all: they share the model.
    """
    steps = load(self._any_task()).substeps
    self.check_physics(
      steps * -(-25 // steps), steps, self.v_control or self.v1
    )

  @pytest.mark.slow
  def test_physics_steps_equal_c(self):
    """v1 and v25 as `physics.md` has them; another compilation, often."""
    self.check_physics(25, 1, self.v1)

  def _any_task(self):
    return next(t for t in envs.ALL_TASKS if t.split('-')[0] == self.domain)

  def check_physics(self, horizon, chunk, bounds):
    task = self._any_task()
    errors = parity.physics_errors(
      load(task), states(task), records(task), horizon, chunk
    )
    short, long = errors[f'v{chunk}'], errors[f'v{horizon}']
    for error, (median, high) in ((short, bounds), (long, self.v25)):
      assert np.median(error) < median
      assert np.quantile(error, 0.99) < high

  def test_initial_distribution_equals_stock(self, task):
    self.check_initial(task, self.draws)

  def check_initial(self, task, draws):
    pvalues = parity.initial_pvalues(load(task), draws)
    model = load(task).mj_model
    assert len(pvalues) >= model.nq + model.nv
    worst = min(pvalues, key=pvalues.__getitem__)
    # Bonferroni: one in a thousand for the whole task.
    assert pvalues[worst] > 0.001 / len(pvalues), worst
