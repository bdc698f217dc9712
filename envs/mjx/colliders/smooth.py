"""Contacts of ellipsoids with spheres, capsules, boxes and each other.

One contact each, as C MuJoCo has it: midway between the two surfaces' points
that are nearest, or deepest in each other. C finds them by GJK where the core
of a sphere or capsule lies outside the ellipsoid, and by EPA otherwise, whose
polytope ends within `ccd_tolerance` of the surface or after `ccd_iterations`:
there C is the rougher of the two.

C finds no contact of geoms whose centres are less than `ccd_tolerance` apart;
here there is one.
"""

from typing import NamedTuple

import jax
import jax.numpy as jp

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx.colliders import separation

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_types import Collision, GeomInfo
  from mujoco.mjx._src.types import GeomType

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


def problem(body: GeomInfo, ellipsoid: GeomInfo, kind: jax.Array) -> Problem:
  """Of a sphere, capsule, box or ellipsoid, and an ellipsoid.

  Each is a special case of a rounded box beside an ellipsoid about the same
  centre, so that one program solves them all.

  Args:
    body: any of these four.
    ellipsoid: the second body.
    kind: the `GeomType` of the body, integer scalar.
  """
  size, none = body.size, jp.zeros_like(body.size)
  sphere, capsule = kind == GeomType.SPHERE, kind == GeomType.CAPSULE
  radius = jp.where(sphere | capsule, size[0], 0)
  segment = jp.where(capsule, none.at[2].set(size[1]), 0)
  box = jp.where(kind == GeomType.BOX, size, segment)
  own = jp.where(kind == GeomType.ELLIPSOID, size, 0)
  scale = jp.maximum(jp.maximum(box, own).max(), ellipsoid.size.max())
  factors = [
    (body.mat.T @ ellipsoid.mat) * (ellipsoid.size / scale),
    jp.diag(own / scale),
  ]
  offset = body.mat.T @ (ellipsoid.pos - body.pos) / scale
  shapes = separation.Shapes.of(offset, factors, box / scale)
  return Problem(shapes, radius / scale, scale, body.pos, body.mat)


def bound(problem: Problem) -> jax.Array:
  """A lower bound of a pair's distance, scalar, metres, at little cost."""
  apart = separation.coarse_separation(problem.shapes)
  return (apart - problem.radius) * problem.scale


def collide(body: GeomInfo, ellipsoid: GeomInfo, kind: jax.Array) -> Collision:
  """One contact, from the body to the ellipsoid, or from the latter to a box.

  Args:
    body: a sphere, capsule, box or ellipsoid.
    ellipsoid: the second body.
    kind: the `GeomType` of the body, integer scalar.
  """
  dist, pos, normal = contact(problem(body, ellipsoid, kind))
  normal = jp.where(kind == GeomType.BOX, -normal, normal)
  return dist, pos, math.make_frame(normal)


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
