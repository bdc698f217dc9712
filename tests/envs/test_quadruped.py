"""Quadruped."""

import copy

import jax
import numpy as np
import pytest

from mjx_crossq.envs import suite
from mjx_crossq.envs.parity import measures as parity

from . import checks

ESCAPE = 'quadruped-escape'


class TestQuadruped(checks.StockParity):
  domain = 'quadruped'
  models = ('run', 'fetch', 'escape')
  slow = ('walk', 'fetch', 'escape')

  @pytest.mark.slow
  def test_initial_distribution_equals_stock(self, task):
    # A terrain has 40,401 heights.
    self.check_initial(task, 300 if task == ESCAPE else self.draws)

  @pytest.mark.slow
  def test_control_steps_equal_c(self, model_task):
    super().test_control_steps_equal_c(model_task)

  def test_escape_has_stocks_specs_too(self):
    self.test_dm_env_has_stocks_specs(ESCAPE)


def test_begins_at_stocks_height():
  """The height that stock's search finds for the same orientations."""
  env = checks.load('quadruped-run')
  keys = jax.random.split(jax.random.key(5), 200)
  poses = np.asarray(jax.jit(jax.vmap(env.initial))(keys).qpos)
  physics = env.stock_env(0).physics
  search = suite.import_stock('quadruped')._find_non_contacting_height
  for pose in poses:
    search(physics, pose[3:7])
    np.testing.assert_allclose(pose, physics.data.qpos, atol=1e-6)


@pytest.mark.slow
def test_escape_begins_at_stocks_height():
  env = checks.load(ESCAPE)
  keys = jax.random.split(jax.random.key(0), 40)
  initial = jax.jit(jax.vmap(env.initial))(keys)
  checks.assert_stocks_height(env, initial.params['terrain'], initial.qpos)
  assert len(np.unique(np.asarray(initial.qpos)[:, 2].round(3))) > 10


@pytest.mark.slow
def test_escape_sees_the_terrain():
  """Some rays meet it, others nothing: the comparison is not empty."""
  ranges = checks.records(ESCAPE).obs[:, -20:]
  assert (ranges == 1).mean() > 0.1
  assert (ranges < 0.9).mean() > 0.1


@pytest.mark.slow
def test_escape_equals_a_c_that_iterates_longer():
  """As near as the other tasks: what `bounds` allow beyond this is C's own.

  C ends its search for the contact of torso and terrain at `ccd_tolerance`.
  """
  env, records = checks.load(ESCAPE), checks.records(ESCAPE)
  assert env.substeps == 4

  def fine(seed):
    stock = checks.load(ESCAPE).stock_env(seed)
    stock.physics.model.opt.ccd_tolerance = 1e-10
    stock.physics.model.opt.ccd_iterations = 1000
    return stock

  longer = copy.copy(env)
  longer.stock_env = fine  # pyright: ignore
  errors = parity.physics_errors(
    longer, checks.states(ESCAPE), records, horizon=28, chunk=4
  )
  for name, median, high in (('v4', 3e-5, 3e-4), ('v28', 5e-5, 9e-4)):
    assert np.median(errors[name]) < median
    assert np.quantile(errors[name], 0.99) < high


@pytest.mark.slow
def test_escape_has_room_for_all_contacts():
  """In stock's states, most of which have some with the terrain."""
  states, env = checks.states(ESCAPE), checks.load(ESCAPE)
  counted = jax.vmap(env.watch)(states)
  assert not np.any(counted['contacts_dropped'])
  touching = (states.pipeline_state._impl.contact.dist < 0).sum(axis=1)
  assert touching.max() > 16
