"""Humanoid."""

import jax
import numpy as np
import pytest

from . import checks


class TestHumanoid(checks.StockParity):
  domain = 'humanoid'
  models = ('run',)
  slow = ('stand', 'walk', 'run_pure_state')

  @pytest.mark.slow
  def test_control_steps_equal_c(self, model_task):
    super().test_control_steps_equal_c(model_task)

  @pytest.mark.slow
  def test_initial_distribution_equals_stock(self, task):
    super().test_initial_distribution_equals_stock(task)


def test_never_begins_in_touch():
  env = checks.load('humanoid-run')
  keys = jax.random.split(jax.random.key(1), 300)
  poses = np.asarray(jax.jit(jax.vmap(env.initial))(keys).qpos)
  physics = env.stock_env(0).physics
  for pose in poses:
    with physics.reset_context():
      physics.data.qpos[:] = pose
    # Within float32's resolution of touching counts as clear.
    assert all(c.dist > -1e-6 for c in physics.data.contact)
