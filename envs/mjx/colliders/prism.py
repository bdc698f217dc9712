"""Contacts of geoms with the prisms under the triangles of a height field.

C collides a geom with each prism by itself. The signed distance of two convex
bodies is the largest separation of all directions (`separation`), and between a
prism and a simple geom the best direction is one of a short list, because it
belongs to a pair of features: a face, edge or corner of the prism, and an end,
a side, a rim or the smooth surface of the geom. For each pair the direction has
a closed form, or is the root of one equation. Each direction's separation is a
lower bound of the distance, so that the largest is the distance.

Prisms are in the frame of the height field, relative to the geom's centre.
Vectors are tuples (`vectors`) of arrays whose last axis is that of the prisms,
and whose first is that of the directions.
"""

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs.mjx import vectors
from mjx_crossq.envs.mjx.vectors import Vector, add, cross, dot, scale, subtract

_EDGES = np.array(
  [(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3), (0, 3), (1, 4), (2, 5)]
)
"""Ends of a prism's edges: corners 0 to 2 are the top's, 3 to 5 the base's."""
_NEXT = np.array([1, 2, 0])
_SHORT = 1e-6
"""Metres; a shorter vector has no direction."""
_PARALLEL = 1e-5
"""Sine of an angle below which lines are parallel."""
_ROOT_STEPS = 8
"""Newton steps to the nearest point of an ellipsoid; 6 are enough."""
_FLAT = 1e-6
"""Least squared axis of an ellipse, relative to the other."""


class Prisms(NamedTuple):
  """Prisms under triangles.

  Attributes:
    x: of the triangle's corners, counter-clockwise from above, `(3, n)`,
      metres.
    y: the same.
    z: the same.
    base: height of the prism's base, `(n,)`.
  """

  x: jax.Array
  y: jax.Array
  z: jax.Array
  base: jax.Array

  def take(self, index: jax.Array) -> 'Prisms':
    """Those with these numbers, `(m,)`."""
    return jax.tree.map(lambda x: x[..., index], self)

  @property
  def corners(self) -> Vector:
    """Those of the top and then the base, `(6, n)` each."""
    base = jp.broadcast_to(self.base, self.z.shape)
    return (
      jp.concatenate([self.x, self.x]),
      jp.concatenate([self.y, self.y]),
      jp.concatenate([self.z, base]),
    )

  def reach(self, n: Vector) -> jax.Array:
    """The support function at directions `(k, n)` each, `(k, n)`."""
    x, y, z = (c[:, None] for c in (self.x, self.y, self.z))
    z = jp.where(n[2] < 0, self.base, z)
    return (x * n[0] + y * n[1] + z * n[2]).max(axis=0)

  def lowest(self, n: Vector) -> Vector:
    """The corner farthest in one direction each, `(n,)`."""
    height = jp.where(n[2] < 0, self.base, self.z)
    along = self.x * n[0] + self.y * n[1] + height * n[2]
    first = jp.argmax(along, axis=0)[None]
    return tuple(
      jp.take_along_axis(c, first, axis=0)[0] for c in (self.x, self.y, height)
    )

  def faces(self) -> Vector:
    """Normals of top, sides and base, `(5, n)`."""
    zero = jp.zeros_like(self.x)
    east, north = self.x[_NEXT] - self.x, self.y[_NEXT] - self.y
    up = self.z[_NEXT] - self.z
    edge = east, north, up
    top = cross(_row(edge, 0), _row(edge, 1))
    base = zero[:1], zero[:1], zero[:1] - 1
    normals = _joined([_row(top, None), (north, -east, zero), base])
    return _unit(normals)[0]


def _row(a: Vector, index: int | None) -> Vector:
  """One entry of the first axis; None adds that axis."""
  if index is None:
    return tuple(x[None] for x in a)
  return tuple(x[index] for x in a)


def _joined(parts: list[Vector]) -> Vector:
  """All directions of some lists."""
  return tuple(jp.concatenate(x) for x in zip(*parts, strict=True))


def _unit(a: Vector) -> tuple[Vector, jax.Array]:
  """Vectors of length one, and the length; zero where there is none."""
  length = jp.sqrt(dot(a, a))
  short = length < _SHORT
  return scale(a, jp.where(short, 0, 1 / jp.where(short, 1, length))), length


def _across(a: Vector, unit: Vector) -> Vector:
  """The part of a vector that is perpendicular to a unit vector."""
  return subtract(a, scale(unit, dot(a, unit)))


class _Edges(NamedTuple):
  """Edges of prisms, `(9, n)`.

  Attributes:
    start: one end.
    along: unit vector.
    length: of the edge.
    out: from the prism's middle to the edge's.
  """

  start: Vector
  along: Vector
  length: jax.Array
  out: Vector

  @classmethod
  def of(cls, prisms: Prisms) -> '_Edges':
    corners = prisms.corners
    start, end = (tuple(c[i] for c in corners) for i in _EDGES.T)
    along, length = _unit(subtract(end, start))
    middle = tuple(c.mean(axis=0) for c in corners)
    out = subtract(scale(add(start, end), 0.5), middle)
    return cls(start, along, length, out)

  def with_line(self, axis: Vector) -> tuple[Vector, jax.Array]:
    """Directions across the edge and a line through zero.

    Args:
      axis: the line's unit vector, `(n,)`.

    Returns:
      Unit vectors `(9, n)`, zero for parallels, and the coordinate along the
      line of its point nearest to the edge's.
    """
    normal = cross(self.along, axis)
    square = dot(normal, normal)
    parallel = square < _PARALLEL**2
    sign = jp.where(dot(normal, self.out) < 0, -1, 1)
    inverse = jp.where(parallel, 0, 1 / jp.where(parallel, 1, square))
    # The nearest points of the lines start + x along and y axis.
    cosine = dot(self.along, axis)
    b, c = dot(self.start, self.along), dot(self.start, axis)
    y = (c - b * cosine) * inverse
    return scale(normal, sign * jp.sqrt(inverse)), y


class Body(Protocol):
  """A geom about zero."""

  def reach(self, n: Vector) -> jax.Array:
    """The support function."""
    ...

  def directions(self, prisms: Prisms) -> tuple[Vector, jax.Array]:
    """What may be the normal of the contact, from a prism to the geom.

    Returns:
      Unit vectors or zeros, `(k, n)`, and for each what `point` is told.
    """
    ...

  def point(self, n: Vector, prisms: Prisms, along: jax.Array) -> Vector:
    """The geom's point deepest in a prism, `(n,)` each.

    Args:
      n: normals.
      prisms: the prisms.
      along: of the direction, from `directions`.
    """
    ...


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
    return jp.abs(dot(n, self.axis)) * self.half + self.radius

  def directions(self, prisms: Prisms) -> tuple[Vector, jax.Array]:
    edges, corners = _Edges.of(prisms), prisms.corners
    faces = prisms.faces()
    half = scale(self.axis, self.half)
    one = jp.ones_like(self.half)
    found = [(faces, -jp.sign(dot(faces, half)))]
    for sign in (1, -1):
      end = scale(half, sign)
      found.append((subtract(end, corners), sign * one))
      apart = subtract(end, edges.start)
      found.append((_across(apart, edges.along), sign * one))
    # The segment's inside, at a corner and at an edge.
    along = dot(corners, self.axis)
    side = _unit(subtract(scale(self.axis, along), corners))[0]
    crossed, at = edges.with_line(self.axis)
    # A sphere's point has none.
    length = jp.where(self.half > _SHORT, self.half, 1)
    long = jp.where(self.half > _SHORT, 1, 0)
    found.append((scale(side, long), along / length))
    found.append((scale(crossed, long), at / length))
    where = [jp.broadcast_to(x, n[0].shape) for n, x in found]
    directions = _unit(_joined([n for n, _ in found]))[0]
    return directions, jp.clip(jp.concatenate(where), -1, 1)

  def point(self, n: Vector, prisms: Prisms, along: jax.Array) -> Vector:
    del prisms
    middle = scale(self.axis, along * self.half)
    return subtract(middle, scale(n, self.radius))


def _ellipse_normal(
  point: tuple[jax.Array, ...], squares: tuple[jax.Array, ...]
) -> tuple[jax.Array, ...]:
  """The normal at the point of an ellipsoid that is nearest to another point.

  It is y_i / (t + b_i) for the largest root t of sum_i b_i (y_i / (t + b_i))^2
  = 1, which Newton's method for the root of the sum reaches from below.

  Args:
    point: y, in the frame of the ellipsoid.
    squares: b, of the semi-axes.

  Returns:
    The outward normal, of any length.
  """
  t = jp.stack(
    [-b + jp.sqrt(b) * jp.abs(y) for y, b in zip(point, squares, strict=True)]
  ).max(axis=0)
  least = jp.stack(squares).min(axis=0)
  t = jp.maximum(t, least * (_FLAT - 1))
  for _ in range(_ROOT_STEPS):
    terms = [
      (b * (y / (t + b)) ** 2, t + b)
      for y, b in zip(point, squares, strict=True)
    ]
    total = sum(x for x, _ in terms)
    slope = sum(x / d for x, d in terms)
    # On 1 / sqrt(total) - 1, which is nearly straight.
    safe = jp.where(slope > 0, slope, 1)
    t += jp.where(slope > 0, total * (jp.sqrt(total) - 1) / safe, 0)
  return tuple(y / (t + b) for y, b in zip(point, squares, strict=True))


def _edge_normal(
  centre: Vector, edge: Vector, image: tuple[Vector, Vector, Vector]
) -> Vector:
  """The normal of an ellipsoid at an edge, seen along the edge as an ellipse.

  Args:
    centre: from the edge to the ellipsoid's centre.
    edge: unit vector.
    image: columns of the matrix that makes the unit ball the ellipsoid.

  Returns:
    The direction across the edge that separates the most, of any length.
  """
  # Two vectors that are perpendicular to the edge.
  side = jp.abs(edge[2]) > 0.7
  zero = jp.zeros_like(edge[0])
  start = jp.where(side, 1.0, 0.0), zero, jp.where(side, 0.0, 1.0)
  p = _unit(_across(start, edge))[0]
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
  a, b = _ellipse_normal((dot(centre, p), dot(centre, q)), (large, small))
  return add(scale(p, a), scale(q, b))


class Ellipsoid(NamedTuple):
  """Ellipsoids.

  Attributes:
    axes: unit vectors, `(n,)` each.
    size: half their lengths.
  """

  axes: tuple[Vector, Vector, Vector]
  size: Vector

  def reach(self, n: Vector) -> jax.Array:
    lengths = [
      dot(n, a) * s for a, s in zip(self.axes, self.size, strict=True)
    ]
    return jp.sqrt(sum(x * x for x in lengths))

  def directions(self, prisms: Prisms) -> tuple[Vector, jax.Array]:
    edges, corners = _Edges.of(prisms), prisms.corners
    image = tuple(
      scale(a, s) for a, s in zip(self.axes, self.size, strict=True)
    )
    at_edges = _edge_normal(scale(edges.start, -1), edges.along, image)
    local = tuple(-dot(corners, a) for a in self.axes)
    normal = _ellipse_normal(local, tuple(s * s for s in self.size))
    at_corners = tuple(
      sum(x * a[i] for x, a in zip(normal, self.axes, strict=True))
      for i in range(3)
    )
    found = _unit(_joined([prisms.faces(), at_edges, at_corners]))[0]
    return found, jp.zeros_like(found[0])

  def point(self, n: Vector, prisms: Prisms, along: jax.Array) -> Vector:
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
    p, q, along = (dot(n, a) for a in self.axes)
    return jp.sqrt(p * p + q * q) * self.radius + jp.abs(along) * self.half

  def directions(self, prisms: Prisms) -> tuple[Vector, jax.Array]:
    edges, corners, axis = _Edges.of(prisms), prisms.corners, self.axes[2]
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
    image = disk[0], disk[1], scale(axis, 0.0)
    inwards = _unit(side)[0]
    for sign in (1, -1):
      centre = scale(axis, sign * self.half)
      rim = subtract(centre, scale(inwards, self.radius))
      found.append((subtract(rim, corners), none))
      apart = subtract(centre, edges.start)
      found.append((_edge_normal(apart, edges.along, image), none))
    where = [jp.broadcast_to(x, n[0].shape) for n, x in found]
    return _unit(_joined([n for n, _ in found]))[0], jp.concatenate(where)

  def point(self, n: Vector, prisms: Prisms, along: jax.Array) -> Vector:
    height = dot(n, self.axes[2])
    across, length = _unit(_across(n, self.axes[2]))
    on_side = jp.clip(along, -self.half, self.half)
    level = jp.where(jp.isnan(along), -jp.sign(height) * self.half, on_side)
    on_rim = subtract(
      scale(self.axes[2], level), scale(across, self.radius)
    )
    # A face of the cylinder is touched by a corner.
    corner = prisms.lowest(n)
    face = length < _PARALLEL
    depth = dot(corner, n) + self.reach(n)
    on_face = subtract(corner, scale(n, depth))
    return tuple(
      jp.where(face, a, b) for a, b in zip(on_face, on_rim, strict=True)
    )


def bound(body: Body, prisms: Prisms) -> jax.Array:
  """A lower bound of the distances, by faces alone, `(n,)`, metres."""
  faces = prisms.faces()
  return (-prisms.reach(faces) - body.reach(faces)).max(axis=0)


def contacts(body: Body, prisms: Prisms) -> tuple[jax.Array, Vector, Vector]:
  """Contacts of geoms with a prism each.

  Args:
    body: the geoms.
    prisms: the prisms, relative to the geoms' centres.

  Returns:
    Distances `(n,)`, positions relative to the geoms' centres, and normals from
    the prisms to the geoms, in the frame of the height field.
  """
  n, along = body.directions(prisms)
  n = vectors.split(jax.lax.optimization_barrier(vectors.join(*n)))
  gap = -prisms.reach(n) - body.reach(n)
  gap = jp.where(dot(n, n) > 0.5, gap, -jp.inf)
  best = jp.argmax(gap, axis=0)[None]
  distance, at, *normal = (
    jp.take_along_axis(x, best, axis=0)[0] for x in (gap, along, *n)
  )
  normal = tuple(normal)
  point = body.point(normal, prisms, at)
  return distance, subtract(point, scale(normal, distance / 2)), normal
