"""Planar one-legged hopper; mirrors `dm_control.suite.hopper`."""

import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import rewards, suite

_STAND_HEIGHT = 0.6
"""Height of the torso over the foot, in metres, that counts as standing."""
_HOP_SPEED = 2.0
"""Metres per second above which the hopping reward is full."""


def make(task: str) -> 'Hopper':
  """Builds 'stand' or 'hop'."""
  return Hopper(task)


class Hopper(suite.SuiteEnv):
  """Stand, or hop forward."""

  from_solve = ('touch',)

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._hopping = task == 'hop'
    super().__init__('hopper', task)

  @override
  def initial(self, rng):
    return suite.Initial(self._random_joints(rng))

  @override
  def observe(self, data):
    touch = self._sensor(data, 'touch_toe', 'touch_heel')
    return {
      'position': data.qpos[1:],
      'velocity': data.qvel,
      'touch': jp.log1p(touch),
    }

  @override
  def reward(self, data):
    torso, foot = (self.mj_model.body(n).id for n in ('torso', 'foot'))
    height = data.xipos[torso, 2] - data.xipos[foot, 2]
    standing = rewards.tolerance(height, (_STAND_HEIGHT, 2.0))
    if self._hopping:
      hopping = rewards.at_least(
        self._sensor(data, 'torso_subtreelinvel')[0],
        _HOP_SPEED,
        margin=_HOP_SPEED / 2,
        value_at_margin=0.5,
      )
      return standing * hopping
    small_control = rewards.small_control(data.ctrl).mean()
    return standing * (small_control + 4) / 5
