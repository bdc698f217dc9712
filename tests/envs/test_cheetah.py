"""Cheetah."""

import jax
import numpy as np
import pytest

from mjx_crossq.envs.mjx import physics

from . import checks


class TestCheetah(checks.StockParity):
  domain = 'cheetah'
  draws = 300  # Each falls for 200 physics steps; in full below.

  @pytest.mark.slow
  def test_initial_distribution_in_full(self, task):
    self.check_initial(task, 2000)


def test_settling_begins_with_stale_forces():
  """Stock's first settling step uses the forces of the default pose."""
  env = checks.load('cheetah-run')
  poses = checks.records('cheetah-run').qpos
  size = len(poses)
  data = jax.tree.map(lambda x: np.stack([x] * size), env._data)
  data = data.replace(qpos=np.float32(poses))
  ctrl = np.zeros((size, env.action_size), np.float32)

  def first_step(data, ctrl):
    return physics.step(env.model, data, ctrl, 1)

  velocities = jax.vmap(first_step)(data, ctrl).qvel
  stock = env.stock_env(0).physics
  for pose, velocity in zip(poses[:50], velocities[:50], strict=True):
    stock.reset()
    stock.data.qpos[:] = pose
    stock.step(1)
    np.testing.assert_allclose(velocity, stock.data.qvel, atol=1e-4)
