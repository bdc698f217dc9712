"""Contacts of ellipsoids with spheres, capsules, boxes and each other.

One contact each, as C MuJoCo has it: midway between the two surfaces' points
that are nearest, or deepest in each other. C finds them by GJK where the core
of a sphere or capsule lies outside the ellipsoid, and by EPA otherwise, whose
polytope ends within `ccd_tolerance` of the surface or after `ccd_iterations`:
there C is the rougher of the two.

C finds no contact of geoms whose centres are less than `ccd_tolerance` apart;
here there is one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jp

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx.colliders import separation

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_types import Collision, GeomInfo

_STARTS = 4
"""Of the search for the normal: no better one was found from 100 starts, in
10,000 pairs of each kind."""


class Problem(NamedTuple):
  """Two bodies whose separation is sought; the first may be rounded.

  Attributes:
    shapes: the bodies in the frame of the first, in units of `scale`.
    radius: of the rounding, scalar, in units of `scale`.
    scale: scalar, metres.
    pos: centre of the first body, `(3,)`, metres.
    mat: its axes, `(3, 3)`.
  """

  shapes: separation.Shapes
  radius: jax.Array
  scale: jax.Array
  pos: jax.Array
  mat: jax.Array


def _problem(
  first: GeomInfo, box: jax.Array, radius: jax.Array, ellipsoid: GeomInfo
) -> Problem:
  """Of a rounded box, of which half sizes may be zero, and an ellipsoid."""
  scale = jp.maximum(box.max(), ellipsoid.size.max())
  factor = (first.mat.T @ ellipsoid.mat) * (ellipsoid.size / scale)
  offset = first.mat.T @ (ellipsoid.pos - first.pos) / scale
  shapes = separation.Shapes.of(offset, [factor], box / scale)
  return Problem(shapes, radius / scale, scale, first.pos, first.mat)


def with_sphere(sphere: GeomInfo, ellipsoid: GeomInfo) -> Problem:
  """Of a sphere and an ellipsoid."""
  point = jp.zeros_like(sphere.size)
  return _problem(sphere, point, sphere.size[0], ellipsoid)


def with_capsule(capsule: GeomInfo, ellipsoid: GeomInfo) -> Problem:
  """Of a capsule and an ellipsoid."""
  segment = jp.zeros_like(capsule.size).at[2].set(capsule.size[1])
  return _problem(capsule, segment, capsule.size[0], ellipsoid)


def with_box(ellipsoid: GeomInfo, box: GeomInfo) -> Problem:
  """Of a box and an ellipsoid; the box is the first body."""
  return _problem(box, box.size, jp.zeros_like(box.size[0]), ellipsoid)


def with_ellipsoid(first: GeomInfo, second: GeomInfo) -> Problem:
  """Of two ellipsoids."""
  scale = jp.maximum(first.size.max(), second.size.max())
  factors = [
    jp.diag(first.size) / scale,
    (first.mat.T @ second.mat) * (second.size / scale),
  ]
  offset = first.mat.T @ (second.pos - first.pos) / scale
  none = jp.zeros_like(offset)
  shapes = separation.Shapes.of(offset, factors[::-1], none)
  return Problem(shapes, none[0], scale, first.pos, first.mat)


def sphere_ellipsoid(sphere: GeomInfo, ellipsoid: GeomInfo) -> Collision:
  """One contact of a sphere and an ellipsoid."""
  dist, pos, normal = contact(with_sphere(sphere, ellipsoid))
  return dist, pos, math.make_frame(normal)


def capsule_ellipsoid(capsule: GeomInfo, ellipsoid: GeomInfo) -> Collision:
  """One contact of a capsule and an ellipsoid."""
  dist, pos, normal = contact(with_capsule(capsule, ellipsoid))
  return dist, pos, math.make_frame(normal)


def ellipsoid_ellipsoid(first: GeomInfo, second: GeomInfo) -> Collision:
  """One contact of two ellipsoids."""
  dist, pos, normal = contact(with_ellipsoid(first, second))
  return dist, pos, math.make_frame(normal)


def ellipsoid_box(ellipsoid: GeomInfo, box: GeomInfo) -> Collision:
  """One contact of an ellipsoid and a box."""
  dist, pos, normal = contact(with_box(ellipsoid, box))
  return dist, pos, math.make_frame(-normal)


def bound(
  problem: Callable[[GeomInfo, GeomInfo], Problem],
  first: GeomInfo,
  second: GeomInfo,
) -> jax.Array:
  """A lower bound of a pair's distance, scalar, metres, at little cost."""
  p = problem(first, second)
  return (separation.coarse_separation(p.shapes) - p.radius) * p.scale


def contact(
  problem: Problem,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Distance, position and the normal from the first body to the second."""
  shapes = problem.shapes
  dist, direction = separation.largest_separation(shapes, _STARTS)
  dist -= problem.radius
  normal = jp.stack(direction)
  farthest = jp.stack(separation.support(shapes, 0, direction))
  surface = jp.stack(shapes.offset) - farthest
  pos = problem.mat @ ((surface - normal * dist / 2) * problem.scale)
  return dist * problem.scale, problem.pos + pos, problem.mat @ normal
