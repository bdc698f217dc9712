"""Masses, springs and a quadratic cost; mirrors `dm_control.suite.lqr`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import suite

_CONTROL_COST = 0.1
_TERMINAL_NORM = 1e-6
"""Norm of the state below which an episode ends by itself."""
_MODEL_SEED = 0
"""Seed with which stock, on loading the task, draws the springs' stiffness. We
always use this seed, in `stock_env` too."""


def make(task: str) -> 'LQR':
  """Builds 'lqr_2_1' or 'lqr_6_2'."""
  return LQR('lqr', task)


class LQR(suite.SuiteEnv):
  """Bring a chain of masses to rest at the origin.

  Stock sets no time limit; here an episode has at most 1,000 control steps.
  """

  terminates = True

  @override
  def stock_xml(self):
    bodies, actuators = map(int, self._task.removeprefix('lqr_').split('_'))
    return suite.import_stock('lqr').get_model_and_assets(
      bodies, actuators, np.random.RandomState(_MODEL_SEED)
    )

  @override
  def stock_env(self, seed):
    stock = super().stock_env(_MODEL_SEED)
    stock.task.random.seed(seed)
    return stock

  @override
  def initial(self, rng):
    direction = jax.random.normal(rng, (self.mj_model.nq,))
    radius = np.sqrt(2).astype(np.float32)
    return suite.Initial(radius * direction / jp.linalg.norm(direction))

  @override
  def observe(self, data):
    return {'position': data.qpos, 'velocity': data.qvel}

  @override
  def reward(self, data):
    state_cost = jp.sum(jp.square(data.qpos)) / 2
    return 1 - state_cost - _CONTROL_COST * jp.sum(jp.square(data.ctrl)) / 2

  @override
  def done(self, data):
    state = jp.concatenate([data.qpos, data.qvel])
    return jp.linalg.norm(state) < _TERMINAL_NORM
