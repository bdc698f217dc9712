"""Two-link reacher; mirrors `dm_control.suite.reacher`."""

import jax
import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import rewards, suite, target

_TARGET_SIZES = {'easy': 0.05, 'hard': 0.015}


def make(task: str) -> 'Reacher':
  """Builds 'easy' or 'hard'."""
  return Reacher(task)


class Reacher(target.TargetEnv):
  """Bring the finger to the target."""

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    super().__init__('reacher', task)
    self._finger = self.mj_model.geom('finger').id
    self._target = self.mj_model.geom('target').id
    finger_size = float(self.mj_model.geom_size[self._finger, 0])
    # Stock writes the target's size into the model at each episode's start.
    self._radii = _TARGET_SIZES[task] + finger_size

  @override
  def initial(self, rng):
    joint_rng, angle_rng, radius_rng = jax.random.split(rng, 3)
    qpos = self._random_joints(joint_rng)
    angle = jax.random.uniform(angle_rng, maxval=2 * jp.pi)
    radius = jax.random.uniform(radius_rng, minval=0.05, maxval=0.20)
    position = radius * jp.stack([jp.sin(angle), jp.cos(angle)])
    return suite.Initial(qpos, params={'target': position})

  def _finger_to_target(self, data) -> jax.Array:
    """Vector from the finger to the target, `(2,)`, metres."""
    return (data.geom_xpos[self._target] - data.geom_xpos[self._finger])[:2]

  @override
  def observe(self, data):
    return {
      'position': data.qpos,
      'to_target': self._finger_to_target(data),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    distance = jp.linalg.norm(self._finger_to_target(data))
    return rewards.tolerance(distance, (0.0, self._radii))
