"""The collision of planes with capsules as C MuJoCo computes it, for Warp.

MuJoCo Warp 3.17 shares MJX's deviation, see `envs.collision`: near the normal
its friction directions do not follow the capsule's axis. Importing this module
replaces the (private) function, for the whole process.
"""

# Warp compiles the function below: Python's types do not apply.
# pyright: reportArgumentType=false, reportCallIssue=false

import warp as wp

from envs import runtime

with runtime.quiet():
  from mujoco.mjx.third_party.mujoco_warp._src import collision_primitive
  from mujoco.mjx.third_party.mujoco_warp._src.collision_primitive_core import (
    plane_sphere,
  )


@wp.func
def plane_capsule(
  normal: wp.vec3,
  plane_pos: wp.vec3,
  capsule_pos: wp.vec3,
  axis: wp.vec3,
  radius: float,
  half_length: float,
):
  """Two contacts, one at each end of the capsule."""
  tangent = axis - normal * wp.dot(normal, axis)
  length = wp.length(tangent)
  # C's normalisation of a zero vector, which a vertical capsule gives.
  if length == 0.0:
    tangent, length = wp.vec3(1.0, 0.0, 0.0), 1.0
  tangent = tangent / length
  third = wp.cross(normal, tangent)
  frame = wp.matrix_from_rows(normal, tangent, third)
  end = axis * half_length
  dist1, pos1 = plane_sphere(normal, plane_pos, capsule_pos + end, radius)
  dist2, pos2 = plane_sphere(normal, plane_pos, capsule_pos - end, radius)
  return wp.vec2(dist1, dist2), wp.matrix_from_rows(pos1, pos2), frame


collision_primitive.plane_capsule = plane_capsule
