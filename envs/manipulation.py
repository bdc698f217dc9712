"""The planar arm with a hand that manipulator and stacker share."""

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import suite

ARM_JOINTS = (
  'arm_root',
  'arm_shoulder',
  'arm_elbow',
  'arm_wrist',
  'finger',
  'fingertip',
  'thumb',
  'thumbtip',
)
CLOSE = 0.01
"""Metres below which two things count as close."""


class Arm(suite.SuiteEnv):
  """An arm in a vertical plane."""

  from_solve = ('touch',)
  clear_resets = True

  def _random_arm(self, rng: jax.Array, qpos: jax.Array) -> jax.Array:
    """Draws the arm's joints; finger and thumb are symmetric.

    Args:
      rng: a key.
      qpos: `(nq,)`.

    Returns:
      `qpos` with new values for the arm's joints.
    """
    joints = [self.mj_model.joint(name) for name in ARM_JOINTS]
    bounds = [
      joint.range if self.mj_model.jnt_limited[joint.id] else (-np.pi, np.pi)
      for joint in joints
    ]
    low, high = jp.asarray(np.array(bounds).T, jp.float32)
    angles = jax.random.uniform(rng, low.shape, minval=low, maxval=high)
    finger, thumb = (ARM_JOINTS.index(name) for name in ('finger', 'thumb'))
    angles = angles.at[finger].set(angles[thumb])
    return qpos.at[self._qpos_at(*ARM_JOINTS)].set(angles)

  def _observe_arm(self, data) -> dict[str, jax.Array]:
    """The observations with which those of all tasks begin."""
    angles = data.qpos[self._qpos_at(*ARM_JOINTS)]
    return {
      'arm_pos': jp.stack([jp.sin(angles), jp.cos(angles)], axis=-1),
      'arm_vel': data.qvel[self._qvel_at(*ARM_JOINTS)],
      'touch': jp.log1p(data.sensordata),
    }

  def _pose(self, data, *bodies: str) -> jax.Array:
    """Planar poses `(x, z, qw, qy)` of bodies, `(len(bodies), 4)`."""
    ids = np.array([self.mj_model.body(name).id for name in bodies])
    position = data.xpos[ids][:, np.array([0, 2])]
    return jp.concatenate(
      [position, data.xquat[ids][:, np.array([0, 2])]], axis=-1
    )

  def _site_distance(self, data, first: str, second: str) -> jax.Array:
    """Distance between two sites, metres."""
    a, b = (self.mj_model.site(name).id for name in (first, second))
    return jp.linalg.norm(data.site_xpos[a] - data.site_xpos[b])
