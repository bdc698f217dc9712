"""Quadruped."""

import jax
import numpy as np
import pytest

from mjx_crossq.envs import suite

from . import checks


class TestQuadruped(checks.StockParity):
  domain = 'quadruped'
  others = ('escape',)  # in test_warp.py: MJX lacks the terrain.
  models = ('run', 'fetch')
  slow = ('walk', 'fetch')

  @pytest.mark.slow
  def test_initial_distribution_equals_stock(self, task):
    super().test_initial_distribution_equals_stock(task)

  @pytest.mark.slow
  def test_control_steps_equal_c(self, model_task):
    super().test_control_steps_equal_c(model_task)

  def test_escape_has_stocks_specs_too(self):
    self.test_dm_env_has_stocks_specs('quadruped-escape')


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
