"""Planar walker; mirrors `dm_control.suite.walker`."""

import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import rewards, suite

_STAND_HEIGHT = 1.2
"""Height of the torso, in metres, above which it counts as standing."""
_SPEEDS = {'stand': 0.0, 'walk': 1.0, 'run': 8.0}
"""Horizontal speeds, metres per second, above which the reward is full."""


def make(task: str) -> 'PlanarWalker':
  """Builds 'stand', 'walk' or 'run'."""
  return PlanarWalker(task)


class PlanarWalker(suite.SuiteEnv):
  """Stand, and move forward at the task's speed."""

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._move_speed = _SPEEDS[task]
    super().__init__('walker', task)

  @override
  def initial(self, rng):
    return suite.Initial(self._random_joints(rng))

  @override
  def observe(self, data):
    torso = self.mj_model.body('torso').id
    return {
      'orientations': data.xmat[1:, 0, jp.array([0, 2])],
      'height': data.xpos[torso, 2],
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    torso = self.mj_model.body('torso').id
    standing = rewards.tolerance(
      data.xpos[torso, 2],
      bounds=(_STAND_HEIGHT, float('inf')),
      margin=_STAND_HEIGHT / 2,
    )
    upright = (1 + data.xmat[torso, 2, 2]) / 2
    stand_reward = (3 * standing + upright) / 4
    if self._move_speed == 0:
      return stand_reward
    move_reward = rewards.at_least(
      self._sensor(data, 'torso_subtreelinvel')[0],
      self._move_speed,
      margin=self._move_speed / 2,
      value_at_margin=0.5,
    )
    return stand_reward * (5 * move_reward + 1) / 6
