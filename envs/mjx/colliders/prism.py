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
SHORT = 1e-6
"""Metres; a shorter vector has no direction."""
PARALLEL = 1e-5
"""Sine of an angle below which lines are parallel."""


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
    normals = joined([_row(top, None), (north, -east, zero), base])
    return unit(normals)[0]


def _row(a: Vector, index: int | None) -> Vector:
  """One entry of the first axis; None adds that axis."""
  if index is None:
    return tuple(x[None] for x in a)
  return tuple(x[index] for x in a)


def joined(parts: list[Vector]) -> Vector:
  """All directions of some lists."""
  return tuple(jp.concatenate(x) for x in zip(*parts, strict=True))


def unit(a: Vector) -> tuple[Vector, jax.Array]:
  """Vectors of length one, and the length; zero where there is none."""
  length = jp.sqrt(dot(a, a))
  short = length < SHORT
  return scale(a, jp.where(short, 0, 1 / jp.where(short, 1, length))), length


def perpendicular(a: Vector, axis: Vector) -> Vector:
  """The part of a vector that is perpendicular to a unit vector."""
  return subtract(a, scale(axis, dot(a, axis)))


class Edges(NamedTuple):
  """Edges of prisms, `(9, n)`.

  Attributes:
    start: one end.
    along: unit vector.
    out: from the prism's middle to the edge's.
  """

  start: Vector
  along: Vector
  out: Vector

  @classmethod
  def of(cls, prisms: Prisms) -> 'Edges':
    """All edges of prisms."""
    corners = prisms.corners
    start, end = (tuple(c[i] for c in corners) for i in _EDGES.T)
    along = unit(subtract(end, start))[0]
    middle = tuple(c.mean(axis=0) for c in corners)
    out = subtract(scale(add(start, end), 0.5), middle)
    return cls(start, along, out)

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
    parallel = square < PARALLEL**2
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
