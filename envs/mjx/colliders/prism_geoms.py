"""Geoms that meet the prisms of height fields: a `prism.Body` for each type.

Each lists the directions in which it may be nearest to, or least deep in, a
prism: those of the prism's faces, and of pairs of an edge or a corner with a
part of the geom. For the curved surfaces of ellipsoids and the rims of
cylinders these are normals of an ellipse at the point nearest to another point.
"""

from typing import NamedTuple

import jax
import jax.numpy as jp

from mjx_crossq.envs.mjx.colliders import prism
from mjx_crossq.envs.mjx.vectors import Vector, add, cross, dot, scale, subtract

_ROOT_STEPS = 8
"""Newton steps to the nearest point of an ellipsoid; 6 are enough."""
_FLAT = 1e-6
"""Least squared axis of an ellipse, relative to the other."""


class Round(NamedTuple):
  """Spheres and capsules: a segment and a radius; a sphere's is a point.

  Attributes:
    axis: of the segment, unit vector, `(n,)`.
    half: half of its length.
    radius: of the surface about it.
  """

  axis: Vector
  half: jax.Array
  radius: jax.Array

  def reach(self, n: Vector) -> jax.Array:
    """See `prism.Body`."""
    return jp.abs(dot(n, self.axis)) * self.half + self.radius

  def directions(self, prisms: prism.Prisms) -> tuple[Vector, jax.Array]:
    """See `prism.Body`."""
    edges, corners = prism.Edges.of(prisms), prisms.corners
    faces = prisms.faces()
    half = scale(self.axis, self.half)
    one = jp.ones_like(self.half)
    found = [(faces, -jp.sign(dot(faces, half)))]
    for sign in (1, -1):
      end = scale(half, sign)
      found.append((subtract(end, corners), sign * one))
      apart = subtract(end, edges.start)
      found.append((prism.perpendicular(apart, edges.along), sign * one))
    # The segment's inside, at a corner and at an edge.
    along = dot(corners, self.axis)
    side = prism.unit(subtract(scale(self.axis, along), corners))[0]
    crossed, at = edges.with_line(self.axis)
    # A sphere's point has none.
    length = jp.where(self.half > prism.SHORT, self.half, 1)
    long = jp.where(self.half > prism.SHORT, 1, 0)
    found.append((scale(side, long), along / length))
    found.append((scale(crossed, long), at / length))
    where = [jp.broadcast_to(x, n[0].shape) for n, x in found]
    directions = prism.unit(prism.joined([n for n, _ in found]))[0]
    return directions, jp.clip(jp.concatenate(where), -1, 1)

  def point(self, n: Vector, prisms: prism.Prisms, along: jax.Array) -> Vector:
    """See `prism.Body`."""
    del prisms
    middle = scale(self.axis, along * self.half)
    return subtract(middle, scale(n, self.radius))


def _ellipse_normal(
  point: tuple[jax.Array, ...],
  squares: tuple[jax.Array, ...],
  across: bool = False,
) -> tuple[jax.Array, ...]:
  """The normal at the point of an ellipsoid that is nearest to another point.

  It is y_i / (t + b_i) for the largest root t of sum_i b_i (y_i / (t + b_i))^2
  = 1, which Newton's method for the root of the sum reaches from below. For a
  point inside an ellipse, the next root belongs to the nearest point on the
  other side of the long axis. It is reached from above.

  Args:
    point: y, in the frame of the ellipsoid.
    squares: b, of the semi-axes; the last is the least if `across`.
    across: whether to look for the next root.

  Returns:
    The outward normal, of any length.
  """
  sign = -1 if across else 1
  starts = [
    -b + sign * jp.sqrt(b) * jp.abs(y)
    for y, b in zip(point, squares, strict=True)
  ]
  if across:
    low, high = -squares[0] * (1 - _FLAT), -squares[1] * (1 + _FLAT)
    t = jp.clip(starts[1], low, high)
  else:
    low, high = jp.stack(squares).min(axis=0) * (_FLAT - 1), jp.inf
    t = jp.maximum(jp.stack(starts).max(axis=0), low)
  for _ in range(_ROOT_STEPS):
    terms = [
      (b * (y / (t + b)) ** 2, t + b)
      for y, b in zip(point, squares, strict=True)
    ]
    total = sum(x for x, _ in terms)
    slope = sum(x / d for x, d in terms)
    # On 1 / sqrt(total) - 1, which is nearly straight.
    safe = jp.where(slope == 0, 1, slope)
    step = total * (jp.sqrt(total) - 1) / safe
    t = jp.clip(t + jp.where(slope == 0, 0, step), low, high)
  return tuple(y / (t + b) for y, b in zip(point, squares, strict=True))


def _edge_normals(
  centre: Vector, edge: Vector, image: tuple[Vector, ...]
) -> list[Vector]:
  """Normals of an ellipsoid at an edge, seen along the edge as an ellipse.

  Args:
    centre: from the edge to the ellipsoid's centre.
    edge: unit vector.
    image: columns of the matrix that makes the unit ball the ellipsoid.

  Returns:
    The direction across the edge that separates the most, and the best one on
    the other side of the ellipse, which may be thin; of any length.
  """
  # Two vectors that are perpendicular to the edge.
  side = jp.abs(edge[2]) > 0.7
  zero = jp.zeros_like(edge[0])
  start = jp.where(side, 1.0, 0.0), zero, jp.where(side, 0.0, 1.0)
  p = prism.unit(prism.perpendicular(start, edge))[0]
  q = cross(edge, p)
  columns = [(dot(p, a), dot(q, a)) for a in image]
  pp = sum(a * a for a, _ in columns)
  qq = sum(b * b for _, b in columns)
  pq = sum(a * b for a, b in columns)
  # Its axes: the eigenvectors of a symmetric 2 x 2 matrix.
  angle = 0.5 * jp.arctan2(2 * pq, pp - qq)
  c, s = jp.cos(angle), jp.sin(angle)
  mean, half = (pp + qq) / 2, jp.sqrt(((pp - qq) / 2) ** 2 + pq * pq)
  large = mean + half
  small = jp.maximum(mean - half, large * _FLAT)
  p, q = (
    add(scale(p, c), scale(q, s)),
    subtract(scale(q, c), scale(p, s)),
  )
  point = dot(centre, p), dot(centre, q)
  found = []
  for across in (False, True):
    a, b = _ellipse_normal(point, (large, small), across)
    found.append(add(scale(p, a), scale(q, b)))
  return found


class Ellipsoid(NamedTuple):
  """Ellipsoids.

  Attributes:
    axes: unit vectors, `(n,)` each.
    size: half their lengths.
  """

  axes: tuple[Vector, Vector, Vector]
  size: Vector

  def reach(self, n: Vector) -> jax.Array:
    """See `prism.Body`."""
    lengths = [dot(n, a) * s for a, s in zip(self.axes, self.size, strict=True)]
    return jp.sqrt(sum(x * x for x in lengths))

  def directions(self, prisms: prism.Prisms) -> tuple[Vector, jax.Array]:
    """See `prism.Body`."""
    edges, corners = prism.Edges.of(prisms), prisms.corners
    image = tuple(
      scale(a, s) for a, s in zip(self.axes, self.size, strict=True)
    )
    apart = scale(edges.start, -1)
    at_edges = _edge_normals(apart, edges.along, image)
    local = tuple(-dot(corners, a) for a in self.axes)
    normal = _ellipse_normal(local, tuple(s * s for s in self.size))
    x, y, z = (scale(a, c) for a, c in zip(self.axes, normal, strict=True))
    at_corners = add(add(x, y), z)
    found = prism.unit(prism.joined([prisms.faces(), *at_edges, at_corners]))[0]
    return found, jp.zeros_like(found[0])

  def point(self, n: Vector, prisms: prism.Prisms, along: jax.Array) -> Vector:
    """See `prism.Body`."""
    del prisms, along
    parts = [
      scale(a, dot(n, a) * s * s)
      for a, s in zip(self.axes, self.size, strict=True)
    ]
    return scale(add(add(parts[0], parts[1]), parts[2]), -1 / self.reach(n))


class Cylinder(NamedTuple):
  """Cylinders.

  Attributes:
    axes: unit vectors, `(n,)` each; the last is the cylinder's.
    radius: `(n,)`.
    half: half of the length.
  """

  axes: tuple[Vector, Vector, Vector]
  radius: jax.Array
  half: jax.Array

  def reach(self, n: Vector) -> jax.Array:
    """See `prism.Body`."""
    p, q, along = (dot(n, a) for a in self.axes)
    return jp.sqrt(p * p + q * q) * self.radius + jp.abs(along) * self.half

  def directions(self, prisms: prism.Prisms) -> tuple[Vector, jax.Array]:
    """See `prism.Body`."""
    edges, corners, axis = prism.Edges.of(prisms), prisms.corners, self.axes[2]
    faces = prisms.faces()
    none = jp.full_like(self.half, jp.nan)
    ends = jp.stack([jp.ones_like(self.half), -jp.ones_like(self.half)])
    along = dot(corners, axis)
    side = subtract(scale(axis, along), corners)
    crossed, at = edges.with_line(axis)
    found = [
      (faces, none),
      (scale(axis, ends), none),
      (side, along),
      (crossed, at),
    ]
    disk = tuple(scale(a, self.radius) for a in self.axes[:2])
    inwards, apart = prism.unit(side)[0], []
    for sign in (1, -1):
      centre = scale(axis, sign * self.half)
      rim = subtract(centre, scale(inwards, self.radius))
      found.append((subtract(rim, corners), none))
      apart.append(subtract(centre, edges.start))
    along_edges = prism.joined([edges.along, edges.along])
    rims = _edge_normals(prism.joined(apart), along_edges, disk)
    found += [(n, none) for n in rims]
    where = [jp.broadcast_to(x, n[0].shape) for n, x in found]
    return prism.unit(prism.joined([n for n, _ in found]))[0], jp.concatenate(
      where
    )

  def point(self, n: Vector, prisms: prism.Prisms, along: jax.Array) -> Vector:
    """See `prism.Body`."""
    height = dot(n, self.axes[2])
    across, length = prism.unit(prism.perpendicular(n, self.axes[2]))
    on_side = jp.clip(along, -self.half, self.half)
    level = jp.where(jp.isnan(along), -jp.sign(height) * self.half, on_side)
    on_rim = subtract(scale(self.axes[2], level), scale(across, self.radius))
    # A face of the cylinder is touched by a corner.
    corner = prisms.lowest(n)
    face = length < prism.PARALLEL
    depth = dot(corner, n) + self.reach(n)
    on_face = subtract(corner, scale(n, depth))
    return tuple(
      jp.where(face, a, b) for a, b in zip(on_face, on_rim, strict=True)
    )
