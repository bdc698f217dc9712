"""Contacts of a capsule and a box as C MuJoCo 3.17 has them.

The first contact is that of a sphere at the point of the capsule's segment
nearest to the box; which is found among the segment's ends above a face and
the pairs of the segment with each of the box's 12 edges. A second sphere goes
to where the segment, from there on, stays longest above the box; there is none
where the segment leads away from it.

Everything is in the frame of the box. Source: `mjraw_CapsuleBox` and
`mjraw_SphereBox` in `engine_collision_box.c`, with the equations of nearest
points rearranged so that nothing cancels in float32.
"""

from typing import NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_types import Collision, GeomInfo

_MINVAL = 1e-15
"""C's `mjMINVAL`."""
_TIE = 3e-7
"""Difference of distances, relative to the size, that may be rounding."""
_CORNERS = np.array([[-1, -1], [1, -1], [-1, 1], [1, 1]])
"""Of an edge along axis j: signs of the axes j + 1 and j + 2."""


class _Nearest(NamedTuple):
  """Points of the segment that are nearest to parts of the box.

  Attributes:
    along: its coordinate on the segment, in [-1, 1].
    square: its squared distance.
    face: whether it is an end of the segment above a face, or inside.
    axis: the face's axis, or the edge's; -1 inside.
    corner: signs of the nearest corner, `(3,)`.
    on_edge: whether the nearest point of the box is inside an edge.
    box_along: its coordinate on that edge, in [-1, 1].
  """

  along: jax.Array
  square: jax.Array
  face: jax.Array
  axis: jax.Array
  corner: jax.Array
  on_edge: jax.Array
  box_along: jax.Array


def capsule_box(capsule: GeomInfo, box: GeomInfo) -> Collision:
  """At most two contacts of a capsule and a box."""
  centre = box.mat.T @ (capsule.pos - box.pos)
  axis = box.mat.T @ capsule.mat[:, 2]
  half = axis * capsule.size[1]
  first, further = _points(centre, axis, half, box.size)
  none = jp.isnan(further)
  second = first + jp.where(none, 0, further)
  contacts = [
    _sphere_box(centre + half * x, capsule.size[0], box.size)
    for x in (first, second)
  ]
  dist, pos, normal = (jp.stack(x) for x in zip(*contacts, strict=True))
  dist = dist.at[1].set(jp.where(none, 1, dist[1]))
  frame = jax.vmap(math.make_frame)(normal @ box.mat.T)
  return dist, box.pos + pos @ box.mat.T, frame


def _points(
  centre: jax.Array, axis: jax.Array, half: jax.Array, size: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Coordinates on the segment of both contacts.

  Of points that are equally near but for rounding, an end above a face comes
  first, as in C, and the inside of an edge before a corner at its end.

  Returns:
    The first, in [-1, 1], and the second relative to it, NaN for none.
  """
  near = jax.tree.map(
    lambda *x: jp.concatenate(x),
    _ends(centre, half, size),
    *(_edge(centre, half, size, j) for j in range(3)),
  )

  def beyond(nearest: _Nearest) -> jax.Array:
    edge = _beyond_edge(axis, half, size, nearest)
    corner = _beyond_corner(axis, half, size, nearest)
    other = jp.where(nearest.on_edge, edge, corner)
    face = _beyond_face(centre, half, size, nearest)
    return jp.where(nearest.face, face, other)

  further = jax.vmap(beyond)(near)
  distance = jp.sqrt(near.square)
  scale = jp.maximum(size.max(), jp.abs(half).max())
  tied = distance <= distance.min() + _TIE * scale
  nearer = jax.vmap(lambda x: _nearer_end(centre, half, size, x))(near)
  rank = jp.where(near.face, 4, 2 * near.on_edge + nearer)
  best = jp.argmax(jp.where(tied, rank, -1))
  return near.along[best], further[best]


def _nearer_end(
  centre: jax.Array, half: jax.Array, size: jax.Array, nearest: _Nearest
) -> jax.Array:
  """Whether a corner or edge is nearer than its like at the box's other end.

  Both are equally far from a segment parallel to the box; what remains is the
  sign of its tilt, which the search for a second contact relies on.
  """
  apart = nearest.corner * size - centre
  across = ~nearest.on_edge | (jp.arange(3) != nearest.axis)
  lead = jp.argmax(jp.where(across, jp.abs(half), -1))
  others = across & (jp.arange(3) != lead)
  tilt = jp.where(others, apart * half, 0).sum()
  return nearest.corner[lead] * half[lead] * tilt > 0


def _ends(centre: jax.Array, half: jax.Array, size: jax.Array) -> _Nearest:
  """The segment's two ends, where they are outside of one face at most."""
  along = jp.array([-1.0, 1.0], centre.dtype)
  points = centre + along[:, None] * half
  beyond = jp.abs(points) > size
  gaps = jp.where(beyond, jp.abs(points) - size, 0)
  count = beyond.sum(axis=1)
  return _Nearest(
    along,
    jp.where(count > 1, jp.inf, (gaps * gaps).sum(axis=1)),
    jp.ones(2, bool),
    jp.where(count == 1, jp.argmax(beyond, axis=1), -1),
    jp.ones((2, 3), centre.dtype),
    jp.zeros(2, bool),
    jp.zeros_like(along),
  )


def _edge(
  centre: jax.Array, half: jax.Array, size: jax.Array, j: int
) -> _Nearest:
  """The segment and the four edges along axis `j`."""
  across = np.array([(j + 1) % 3, (j + 2) % 3])
  signs = jp.asarray(_CORNERS, centre.dtype)
  apart = signs * size[across] - centre[across]
  length, step = size[j], half[j]
  square = jp.dot(half[across], half[across])
  total = jp.dot(half, half)
  skew = length * length * square >= _MINVAL
  # Coordinates y on the segment and x on the edge, each in [-1, 1]: first
  # without bounds, then each bounded, and the other solved for.
  y = apart @ half[across] / jp.where(skew, square, 1)
  x = (step * y + centre[j]) / length
  upper, lower = x > 1, x < -1
  x = jp.clip(x, -1, 1)
  inner = apart @ half[across] - step * centre[j] + length * step * x
  y = jp.where(upper | lower, inner / total, y)
  bounded = jp.abs(y) > 1
  y = jp.clip(y, -1, 1)
  again = (step * y + centre[j]) / length
  x = jp.where(bounded, jp.clip(again, -1, 1), x)
  # As in C, an edge's end stays one when the second bound moves the point.
  upper = jp.where(bounded & (again < -1), False, upper | bounded & (again > 1))
  lower = jp.where(bounded & (again > 1), False, lower | bounded & (again < -1))
  gaps = apart - y[:, None] * half[across]
  rest = length * x - centre[j] - step * y
  corner = jp.zeros((4, 3), centre.dtype)
  corner = corner.at[:, across].set(signs)
  corner = corner.at[:, j].set(jp.where(upper, 1.0, -1.0))
  return _Nearest(
    y,
    jp.where(skew, (gaps * gaps).sum(axis=1) + rest * rest, jp.inf),
    jp.zeros(4, bool),
    jp.full(4, j),
    corner,
    ~upper & ~lower,
    x,
  )


def _bounded(length: jax.Array, size: jax.Array, step: jax.Array) -> jax.Array:
  """A length on the segment, or the one at which `step` has gone `size`."""
  limit = size / jp.maximum(jp.abs(step), 1e-30)
  return jp.minimum(length, limit)


def _turns(half: jax.Array, corner: jax.Array) -> jax.Array:
  """In which axes the segment leads away from a corner's inside, `(3,)`."""
  return (half > 0) ^ (corner > 0)


def _beyond_corner(
  axis: jax.Array, half: jax.Array, size: jax.Array, nearest: _Nearest
) -> jax.Array:
  """The second contact's coordinate relative to the first's, NaN for none.

  The nearest point is a corner: onwards along the edge, or along the face.
  """
  turns = _turns(half, nearest.corner)
  count = turns.sum()
  # The axis in which the segment's sense differs from the others'.
  odd = jp.where(count == 1, turns, ~turns)
  sense = jp.where(count == 1, 1.0, -1.0).astype(half.dtype)
  along_edge = jp.where(odd, axis * axis, 0).sum() > 0.5
  limits = 2 * size / jp.maximum(jp.abs(half), 1e-30)
  on_edge = jp.minimum(
    1 - sense * nearest.along, jp.where(odd, limits, jp.inf).min()
  )
  on_face = jp.minimum(
    1 + sense * nearest.along, jp.where(odd, jp.inf, limits).min()
  )
  further = jp.where(along_edge, on_edge * sense, -on_face * sense)
  return jp.where((count == 0) | (count == 3), jp.nan, further)


def _beyond_edge(
  axis: jax.Array, half: jax.Array, size: jax.Array, nearest: _Nearest
) -> jax.Array:
  """As `_beyond_corner`, the nearest point being inside an edge."""
  edge = nearest.axis
  turns = _turns(half, nearest.corner)
  one, two = (edge + 1) % 3, (edge + 2) % 3
  crosses = turns[one] ^ turns[two]
  # The face at the smaller angle, by its axis in which the segment goes on.
  face = jp.where(jp.abs(axis[one]) > jp.abs(axis[two]), one, two)
  forward = turns[face]
  sense = jp.where(forward, 1.0, -1.0).astype(half.dtype)
  length = _bounded(1 - sense * nearest.along, 2 * size[face], half[face])
  same = (half[edge] > 0) == forward
  room = 1 + jp.where(same, -nearest.box_along, nearest.box_along)
  length = _bounded(length, size[edge] * room, half[edge])
  return jp.where(crosses, length * sense, jp.nan)


def _beyond_face(
  centre: jax.Array, half: jax.Array, size: jax.Array, nearest: _Nearest
) -> jax.Array:
  """As `_beyond_corner`, the nearest point being an end above a face."""
  sense = -nearest.along
  end = centre + half * nearest.along
  step = jp.where(jp.abs(half) > 1e-30, half, 1e-30)
  limits = sense * jp.stack([size - end, -size - end]) / step
  others = jp.arange(3) != nearest.axis
  limits = jp.where(others & (limits > 0), limits, 2)
  return jp.where(nearest.axis < 0, jp.nan, limits.min() * sense)


def _sphere_box(
  centre: jax.Array, radius: jax.Array, size: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Distance, position and normal of a sphere and a box, in the box's frame."""
  clipped = jp.clip(centre, -size, size)
  gap = clipped - centre
  square = jp.dot(gap, gap)
  inside = square <= _MINVAL * _MINVAL
  distance = jp.where(inside, 0, jp.sqrt(jp.where(inside, 1, square)))
  outer = gap / jp.where(inside, 1, distance)
  # Inside, to the nearest face: both of an axis before the next axis.
  depths = jp.stack([size + centre, size - centre], axis=1).ravel()
  least = jp.argmin(depths)
  sign = 1 - 2 * (least % 2)
  inner = jp.where(jp.arange(3) == least // 2, sign, 0).astype(centre.dtype)
  depth = depths[least]
  normal = jp.where(inside, inner, outer)
  pos = jp.where(
    inside,
    centre + inner * (radius - depth) / 2,
    (clipped + centre + outer * radius) / 2,
  )
  return jp.where(inside, -depth, distance) - radius, pos, normal
