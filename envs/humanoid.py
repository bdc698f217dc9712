"""Humanoid; mirrors `dm_control.suite.humanoid`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import rewards, suite

_STAND_HEIGHT = 1.4
"""Height of the head, in metres, above which it counts as standing."""
_SPEEDS = {'stand': 0.0, 'walk': 1.0, 'run': 10.0, 'run_pure_state': 10.0}
"""Horizontal speeds, metres per second, above which the reward is full."""


def make(task: str) -> 'Humanoid':
  """Builds 'stand', 'walk', 'run' or 'run_pure_state'."""
  return Humanoid('humanoid', task)


class Humanoid(suite.SuiteEnv):
  """Stand, or move at the task's speed in any direction."""

  clear_resets = True
  trunk = 'torso'
  """The body whose frame is the observations'."""
  trunk_up = 2
  """Which of its axes points up."""
  limbs = ('left_hand', 'left_foot', 'right_hand', 'right_foot')

  def __init__(self, domain: str, task: str):
    """Builds the task.

    Args:
      domain: stock's name.
      task: stock's name.
    """
    self._move_speed = _SPEEDS[task]
    self._pure_state = task == 'run_pure_state'
    super().__init__(domain, task)

  @override
  def initial(self, rng):
    return self._without_contact(
      rng, lambda rng, _: suite.Initial(self._random_joints(rng))
    )

  def _head_height(self, data) -> jax.Array:
    """Height of the head, in metres."""
    return data.xpos[self.mj_model.body('head').id, 2]

  def _velocity(self, data) -> jax.Array:
    """Velocity of the centre of mass, `(3,)`, metres per second."""
    return self._sensor(data, f'{self.trunk}_subtreelinvel')

  @override
  def observe(self, data):
    if self._pure_state:
      return {'position': data.qpos, 'velocity': data.qvel}
    m = self.mj_model
    trunk = m.body(self.trunk).id
    limbs = np.array([m.body(name).id for name in self.limbs])
    frame = data.xmat[trunk]
    return {
      'joint_angles': data.qpos[7:],
      'head_height': self._head_height(data),
      'extremities': (data.xpos[limbs] - data.xpos[trunk]) @ frame,
      'torso_vertical': frame[2],
      'com_velocity': self._velocity(data),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    standing = rewards.tolerance(
      self._head_height(data),
      bounds=(_STAND_HEIGHT, float('inf')),
      margin=_STAND_HEIGHT / 4,
    )
    trunk = self.mj_model.body(self.trunk).id
    upright = rewards.at_least(
      data.xmat[trunk, 2, self.trunk_up], 0.9, margin=1.9
    )
    small_control = rewards.small_control(data.ctrl).mean()
    stand_reward = standing * upright * (4 + small_control) / 5
    velocity = self._velocity(data)[:2]
    if self._move_speed == 0:
      return stand_reward * rewards.tolerance(velocity, margin=2).mean()
    move = rewards.at_least(
      jp.linalg.norm(velocity), self._move_speed, margin=self._move_speed
    )
    return stand_reward * (5 * move + 1) / 6
