"""Fish; mirrors `dm_control.suite.fish`."""

import jax
import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import rewards, suite, target

_JOINTS = (
  'tail1',
  'tail_twist',
  'tail2',
  'finright_roll',
  'finright_pitch',
  'finleft_roll',
  'finleft_pitch',
)
_TARGET_LOW, _TARGET_HIGH = (-0.4, -0.4, 0.1), (0.4, 0.4, 0.3)
"""The box, in metres, in which 'swim' puts the target."""


def make(task: str) -> 'Fish':
  """Builds 'upright' or 'swim'."""
  return {'upright': Upright, 'swim': Swim}[task]('fish', task)


class Fish(suite.SuiteEnv):
  """Observations and initial states that both tasks share."""

  @override
  def initial(self, rng):
    turn_rng, joints_rng = jax.random.split(rng)
    quaternion = jax.random.normal(turn_rng, (4,))
    angles = jax.random.uniform(
      joints_rng, (len(_JOINTS),), minval=-0.2, maxval=0.2
    )
    qpos = jp.asarray(self.mj_model.qpos0, jp.float32)
    qpos = qpos.at[3:7].set(quaternion / jp.linalg.norm(quaternion))
    return suite.Initial(qpos.at[self._qpos_at(*_JOINTS)].set(angles))

  def _uprightness(self, data) -> jax.Array:
    """Cosine of the angle between the torso's z axis and the vertical."""
    return data.xmat[self.mj_model.body('torso').id, 2, 2]


class Upright(Fish):
  """Right itself."""

  @override
  def observe(self, data):
    return {
      'joint_angles': data.qpos[self._qpos_at(*_JOINTS)],
      'upright': self._uprightness(data),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    return rewards.tolerance(self._uprightness(data), (1.0, 1.0), margin=1)


class Swim(Fish, target.TargetEnv):
  """Swim to the target."""

  target_axes = (0, 1, 2)

  @override
  def initial(self, rng):
    fish_rng, target_rng = jax.random.split(rng)
    low, high = jp.array(_TARGET_LOW), jp.array(_TARGET_HIGH)
    position = jax.random.uniform(target_rng, (3,), minval=low, maxval=high)
    return super().initial(fish_rng)._replace(params={'target': position})

  def _mouth_to_target(self, data) -> jax.Array:
    """Vector from the mouth to the target in the mouth's frame, metres."""
    mouth, goal = (self.mj_model.geom(n).id for n in ('mouth', 'target'))
    offset = data.geom_xpos[goal] - data.geom_xpos[mouth]
    return offset @ data.geom_xmat[mouth]

  @override
  def observe(self, data):
    return {
      'joint_angles': data.qpos[self._qpos_at(*_JOINTS)],
      'upright': self._uprightness(data),
      'target': self._mouth_to_target(data),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    m = self.mj_model
    radii = float(m.geom('mouth').size[0] + m.geom('target').size[0])
    in_target = rewards.tolerance(
      jp.linalg.norm(self._mouth_to_target(data)),
      bounds=(0.0, radii),
      margin=2 * radii,
    )
    return (7 * in_target + (self._uprightness(data) + 1) / 2) / 8
