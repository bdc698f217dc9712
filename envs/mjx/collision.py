"""Collisions of capsules as C MuJoCo computes them.

MJX 3.17 differs from C in three of its colliders; `corrections.install` puts
these in their place.

* plane-capsule: friction directions always follow the capsule's axis. MJX takes
  a fixed axis when the capsule is within 30 degrees of the normal, which turns
  the friction pyramid (mujoco issue 2774). v1, 99 %: .58 -> 8e-4 in humanoid.
  Planar robots are not affected: there the pyramid turns by 90 degrees.
* sphere-capsule and capsule-capsule: no 1e-6 in the denominators, which in MJX
  moves the nearest points of segments some centimetres long by 1e-4 of their
  length. In float64, v25, 99 %: 3e-4 -> 1e-13 in ball_in_cup and hopper.

Source: `engine_collision_primitive.c` of MuJoCo 3.17.
"""

import jax
import jax.numpy as jp

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_primitive import (
    _plane_sphere,
    _sphere_sphere,
    collider,
  )
  from mujoco.mjx._src.collision_types import Collision, GeomInfo
  from mujoco.mjx._src.types import GeomType


@collider(ncon=2)
def plane_capsule(plane: GeomInfo, cap: GeomInfo) -> Collision:
  """Two contacts, one at each end of the capsule."""
  normal, axis = plane.mat[:, 2], cap.mat[:, 2]
  tangent, length = math.normalize_with_norm(
    axis - normal * jp.dot(normal, axis)
  )
  # C's normalisation of a zero vector, which a vertical capsule gives.
  tangent = jp.where(length == 0, jp.array([1.0, 0.0, 0.0]), tangent)
  frame = jp.stack([normal, tangent, jp.cross(normal, tangent)])
  ends = [cap.pos + axis * cap.size[1], cap.pos - axis * cap.size[1]]
  contacts = [
    _plane_sphere(normal, plane.pos, end, cap.size[0]) for end in ends
  ]
  dist, pos = (jp.stack(x) for x in zip(*contacts, strict=True))
  return dist, pos, jp.stack([frame, frame])


@collider(ncon=1)
def sphere_capsule(sphere: GeomInfo, cap: GeomInfo) -> Collision:
  """One contact, at the capsule's nearest inner sphere."""
  axis, length = cap.mat[:, 2], cap.size[1]
  along = jp.clip(jp.dot(axis, sphere.pos - cap.pos), -length, length)
  nearest = cap.pos + axis * along
  dist, pos, normal = _sphere_sphere(
    sphere.pos, sphere.size[0], nearest, cap.size[0]
  )
  return dist, pos, math.make_frame(normal)


@collider(ncon=1)
def capsule_capsule(cap1: GeomInfo, cap2: GeomInfo) -> Collision:
  """One contact, at the segments' nearest points.

  Exactly parallel capsules have two contacts in C and one here, as in MJX.
  """
  x1, x2 = _nearest(cap1, cap2)
  dist, pos, normal = _sphere_sphere(
    cap1.pos + cap1.mat[:, 2] * cap1.size[1] * x1,
    cap1.size[0],
    cap2.pos + cap2.mat[:, 2] * cap2.size[1] * x2,
    cap2.size[0],
  )
  return dist, pos, math.make_frame(normal)


def _nearest(cap1: GeomInfo, cap2: GeomInfo) -> tuple[jax.Array, jax.Array]:
  """Coordinates in [-1, 1] of two segments' nearest points."""
  axis1 = cap1.mat[:, 2] * cap1.size[1]
  axis2 = cap2.mat[:, 2] * cap2.size[1]
  apart = cap1.pos - cap2.pos
  # Minimise |apart + x1 axis1 - x2 axis2|: a symmetric 2 x 2 system.
  a, b, c = jp.dot(axis1, axis1), -jp.dot(axis1, axis2), jp.dot(axis2, axis2)
  u, v = -jp.dot(axis1, apart), jp.dot(axis2, apart)
  det = a * c - b * b
  x1 = jp.where(det > 0, (c * u - b * v) / jp.where(det > 0, det, 1), 1)
  # Clip one, solve for the other, and where that leaves, the other way round.
  x1 = jp.clip(x1, -1, 1)
  x2 = (v - b * x1) / c
  inside = jp.abs(x2) <= 1
  x2 = jp.clip(x2, -1, 1)
  x1 = jp.where(inside, x1, jp.clip((u - b * x2) / a, -1, 1))
  return x1, x2


COLLIDERS = {
  (GeomType.PLANE, GeomType.CAPSULE): plane_capsule,
  (GeomType.SPHERE, GeomType.CAPSULE): sphere_capsule,
  (GeomType.CAPSULE, GeomType.CAPSULE): capsule_capsule,
}
"""By types of geoms."""
