"""Cart-pole; mirrors `dm_control.suite.cartpole`."""

import jax
import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import rewards, suite
from mjx_crossq.envs.mjx.models import Data

_CART_RANGE = (-0.25, 0.25)
_ANGLE_COSINE_RANGE = (0.995, 1.0)


def make(task: str) -> 'Balance':
  """Builds 'balance', 'swingup', their '_sparse' forms, or more poles."""
  return Balance(task)


class Balance(suite.SuiteEnv):
  """Keep the pole upright, from near there or after swinging it up."""

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._swing_up = not task.startswith('balance')
    self._sparse = task.endswith('_sparse')
    super().__init__('cartpole', task)

  @override
  def stock_xml(self):
    poles = {'two_poles': 2, 'three_poles': 3}.get(self._task, 1)
    return suite.import_stock('cartpole').get_model_and_assets(poles)

  @override
  def initial(self, rng):
    nv = self.mj_model.nv
    pos_rng, vel_rng = jax.random.split(rng)
    if self._swing_up:
      center = jp.zeros(nv).at[1].set(jp.pi)
      scale = jp.full(nv, 0.1).at[:2].set(0.01)
      qpos = center + scale * jax.random.normal(pos_rng, (nv,))
    else:
      bound = jp.full(nv, 0.034).at[0].set(0.1)
      qpos = bound * jax.random.uniform(pos_rng, (nv,), minval=-1, maxval=1)
    return suite.Initial(qpos, 0.01 * jax.random.normal(vel_rng, (nv,)))

  def _cosine(self, data: Data) -> jax.Array:
    """Cosine of each pole's angle to the vertical, `(poles,)`."""
    return data.xmat[2:, 2, 2]

  @override
  def observe(self, data):
    poles = jp.stack([data.xmat[2:, 2, 2], data.xmat[2:, 0, 2]], axis=-1)
    return {
      'position': jp.concatenate([data.qpos[:1], poles.ravel()]),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    cart, cosine = data.qpos[0], self._cosine(data)
    if self._sparse:
      cart_in_bounds = rewards.tolerance(cart, _CART_RANGE)
      angle_in_bounds = rewards.tolerance(cosine, _ANGLE_COSINE_RANGE).prod()
      return cart_in_bounds * angle_in_bounds
    upright = (cosine + 1) / 2
    centered = (1 + rewards.tolerance(cart, margin=2)) / 2
    small_control = rewards.small_control(data.ctrl)[0]
    small_control = (4 + small_control) / 5
    small_velocity = rewards.tolerance(data.qvel[1:], margin=5).min()
    small_velocity = (1 + small_velocity) / 2
    return upright.mean() * small_control * small_velocity * centered
