"""Finger and spinner; mirrors `dm_control.suite.finger`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import suite, target

_TARGET_SIZES = {'turn_easy': 0.07, 'turn_hard': 0.03}
"""Radius of the target, in metres."""
_SPIN_VELOCITY = 15.0
"""Radians per second, backwards, that count as spinning."""
_SPIN_DAMPING = 0.03
"""Damping of the spinner in 'spin', which stock writes into the model."""
_XZ = np.array([0, 2])


def make(task: str) -> 'Finger':
  """Builds 'spin', 'turn_easy' or 'turn_hard'."""
  return Spin('finger', task) if task == 'spin' else Turn(task)


class Finger(suite.SuiteEnv):
  """Observations and initial states that all tasks share."""

  from_solve = ('touch',)
  clear_resets = True

  @override
  def initial(self, rng):
    return self._without_contact(
      rng, lambda rng, _: suite.Initial(self._random_joints(rng))
    )

  def _from_spinner(self, data, name: str) -> jax.Array:
    """Position of a site's sensor relative to the spinner, `(x, z)`, metres."""
    return (self._sensor(data, name) - self._sensor(data, 'spinner'))[_XZ]

  @override
  def observe(self, data):
    tip = self._from_spinner(data, 'tip')
    velocities = ('proximal_velocity', 'distal_velocity', 'hinge_velocity')
    return {
      'position': jp.append(self._sensor(data, 'proximal', 'distal'), tip),
      'velocity': self._sensor(data, *velocities),
      'touch': jp.log1p(self._sensor(data, 'touchtop', 'touchbottom')),
    }


class Spin(Finger):
  """Flick the spinner until it turns fast."""

  @override
  def model_at(self, params):
    hinge = self._qvel_at('hinge')
    return self.model.replace(
      dof_damping=self.model.dof_damping.at[hinge].set(_SPIN_DAMPING)
    )

  @override
  def write_params(self, physics, params):
    physics.named.model.dof_damping['hinge'] = _SPIN_DAMPING

  @override
  def reward(self, data):
    velocity = self._sensor(data, 'hinge_velocity')[0]
    return (velocity <= -_SPIN_VELOCITY).astype(jp.float32)


class Turn(Finger, target.TargetEnv):
  """Turn the spinner until its tip is in the target."""

  target_field = 'site_pos'
  target_axes = (0, 2)

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    super().__init__('finger', task)
    self._radius = _TARGET_SIZES[task]

  @override
  def initial(self, rng):
    joints_rng, target_rng = jax.random.split(rng)
    angle = jax.random.uniform(target_rng, minval=-jp.pi, maxval=jp.pi)
    hinge = jp.asarray(self.mj_model.body('spinner').pos[_XZ], jp.float32)
    length = float(self.mj_model.geom('cap1').size.sum())
    position = hinge + length * jp.stack([jp.sin(angle), jp.cos(angle)])
    initial = super().initial(joints_rng)
    return initial._replace(params={'target': position})

  @override
  def write_params(self, physics, params):
    physics.named.model.site_size['target', 0] = self._radius
    super().write_params(physics, params)

  def _distance(self, data) -> jax.Array:
    """From the tip to the target's surface, in metres; negative inside."""
    to_target = self._from_spinner(data, 'target') - self._from_spinner(
      data, 'tip'
    )
    return jp.linalg.norm(to_target) - self._radius

  @override
  def observe(self, data):
    return super().observe(data) | {
      'target_position': self._from_spinner(data, 'target'),
      'dist_to_target': self._distance(data),
    }

  @override
  def reward(self, data):
    return (self._distance(data) <= 0).astype(jp.float32)
