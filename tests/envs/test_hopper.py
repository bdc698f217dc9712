"""Hopper."""

import jax
import numpy as np

from . import checks


class TestHopper(checks.StockParity):
  domain = 'hopper'


def test_step_mixes_new_positions_with_the_last_solve():
  """After a step, touch is what the forces were; positions are new."""
  env = checks.load('hopper-hop')
  records = checks.records('hopper-hop')
  # The state whose touch sensors report most.
  row = int(np.argmax(records.obs[:, -1]))
  stock = env.stock_env(0).physics
  with stock.reset_context():
    stock.data.qpos[:] = records.qpos[row]
    stock.data.qvel[:] = records.qvel[row]
  action = np.ones((len(records), env.action_size), np.float32)
  after = jax.jit(jax.vmap(env.step))(checks.states('hopper-hop'), action)
  data = jax.tree.map(lambda x: np.asarray(x[row]), after.pipeline_state)
  stock.set_control(np.ones(env.action_size))
  stock.step(env.substeps)
  sensors = stock.data.sensordata.copy()
  np.testing.assert_allclose(data.sensordata, sensors, rtol=2e-3, atol=2e-3)
  np.testing.assert_allclose(data.xpos, stock.data.xpos, atol=1e-4)
  stock.forward()  # What a plain MJX step would show instead.
  assert np.abs(sensors - stock.data.sensordata).max() > 0.1
