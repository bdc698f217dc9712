"""Contacts of two boxes as C MuJoCo 3.17 has them.

The axis of largest separation among 15 is a face's normal or the cross product
of two edges. A face gives the corners of the other box's facing face, clipped
to it: up to eight contacts. Two edges give one. A face wins ties.

Source: `mjc_BoxBox` in `engine_collision_box.c`, with the rounding bounds of
its single precision build. The polygon is not clipped plane by plane: its
corners are gathered from 16 candidates, which takes no changing shapes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_types import Collision, GeomInfo

CONTACTS = 8
_SEPARATED = 1e-6
"""Slack of a separation, relative to the sum of half sizes."""
_PARALLEL = 1e-7
"""Squared sine of the angle below which two edges count as parallel."""
_AMBIGUOUS = 1e-5
"""Component of a unit axis below which either of two edges supports it."""
_DUPLICATE = 1e-10
"""Squared distance of corners that count as one, relative to the face's."""
_ON_BORDER = 1e-6
"""Relative slack of a corner on the border of the face."""
_EDGE_BIAS = 1e-6
"""Relative handicap of an edge axis."""
_SAME_AXIS, _SAME_DEPTH = 0.99, 0.05
"""Cosine and relative depth at which a face replaces an edge axis."""
_SIGNS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
_NEXT = np.array([1, 2, 0])
_AFTER = np.array([2, 0, 1])


class _Pair(NamedTuple):
  """Two boxes in the frame of the first.

  Attributes:
    offset: from the first centre to the second, `(3,)`.
    turn: columns are the second's axes, `(3, 3)`.
    size1: half sizes, `(3,)`.
    size2: half sizes, `(3,)`.
  """

  offset: jax.Array
  turn: jax.Array
  size1: jax.Array
  size2: jax.Array


def box_box(box1: GeomInfo, box2: GeomInfo) -> Collision:
  """At most eight contacts of two boxes."""
  offset = box1.mat.T @ (box2.pos - box1.pos)
  turn = box1.mat.T @ box2.mat
  pair = _Pair(offset, turn, box1.size, box2.size)
  swapped = _Pair(-turn.T @ offset, turn.T, box2.size, box1.size)
  faces = jp.concatenate([_face_separations(pair), _face_separations(swapped)])
  edges, axes = _edge_separations(pair)
  face, edge = jp.argmax(faces), jp.argmax(edges)
  by_edge = _edge_wins(pair, faces[face], face, edges[edge], axes[edge])
  second = face >= 3
  reference = jax.tree.map(lambda x, y: jp.where(second, y, x), pair, swapped)
  dist, pos, normal = _face_contacts(reference, face % 3)
  mat = jp.where(second, box2.mat, box1.mat)
  pos = jp.where(second, box2.pos, box1.pos) + pos @ mat.T
  normal = jp.where(second, -1, 1) * (mat @ normal)
  edge_dist, edge_pos = _edge_contact(pair, edge, axes[edge])
  dist = jp.where(by_edge, jp.ones_like(dist).at[0].set(edge_dist), dist)
  pos = jp.where(by_edge, box1.pos + box1.mat @ edge_pos, pos)
  normal = jp.where(by_edge, box1.mat @ axes[edge], normal)
  slack = _SEPARATED * (box1.size.sum() + box2.size.sum())
  dist = jp.where(jp.maximum(faces[face], edges[edge]) > slack, 1, dist)
  frame = jp.broadcast_to(math.make_frame(normal), (CONTACTS, 3, 3))
  return dist, pos, frame


def _face_separations(pair: _Pair) -> jax.Array:
  """Along the first box's axes, `(3,)`, metres."""
  radius = jp.abs(pair.turn) @ pair.size2
  return jp.abs(pair.offset) - pair.size1 - radius


def _edge_separations(pair: _Pair) -> tuple[jax.Array, jax.Array]:
  """Separations and axes of pairs of edges, `(9,)` and `(9, 3)`.

  The axes point from the first box to the second.
  """
  units = jp.eye(3, dtype=pair.turn.dtype)
  axes = jp.cross(units[:, None], pair.turn.T[None]).reshape(9, 3)
  square = (axes * axes).sum(axis=1)
  skew = square >= _PARALLEL
  axes = axes * jax.lax.rsqrt(jp.where(skew, square, 1))[:, None]
  along = axes @ pair.offset
  axes = jp.where(along < 0, -1, 1)[:, None] * axes
  radius1 = jp.abs(axes) @ pair.size1
  radius2 = jp.abs(axes @ pair.turn) @ pair.size2
  separations = jp.abs(along) - radius1 - radius2
  return jp.where(skew, separations, -jp.inf), axes


def _edge_wins(
  pair: _Pair,
  face_separation: jax.Array,
  face: jax.Array,
  separation: jax.Array,
  axis: jax.Array,
) -> jax.Array:
  """Whether the best edge axis replaces the best face."""
  better = separation - _EDGE_BIAS * jp.abs(separation) > face_separation
  normals = jp.concatenate([jp.eye(3, dtype=axis.dtype), pair.turn.T])
  same_axis = jp.abs(normals[face] @ axis) > _SAME_AXIS
  margin = _SAME_DEPTH * jp.abs(face_separation)
  return better & ~(same_axis & (separation < face_separation + margin))


def _edge_contact(
  pair: _Pair, edge: jax.Array, axis: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Distance and position, in the first box's frame, of two edges."""
  i, j = edge // 3, edge % 3
  own = jp.arange(3) == i
  other = jp.arange(3) == j
  axis2 = axis @ pair.turn
  direction = pair.turn[:, j]
  cosine = direction[i]
  sine2 = jp.maximum(1 - cosine * cosine, _PARALLEL)

  def witnesses(flip1, flip2):
    # The edges farthest along the axis; where that is ambiguous, either.
    sign1 = jp.where(axis >= 0, 1, -1) * jp.where(flip1, -1, 1)
    sign2 = jp.where(axis2 >= 0, -1, 1) * jp.where(flip2, -1, 1)
    corner1 = jp.where(own, 0, sign1 * pair.size1)
    corner2 = jp.where(other, 0, sign2 * pair.size2)
    corner2 = pair.offset + pair.turn @ corner2
    apart = corner2 - corner1
    along1, along2 = apart[i], jp.dot(direction, apart)
    s = (along1 - cosine * along2) / sine2
    s = jp.clip(s, -pair.size1[i], pair.size1[i])
    t = jp.clip(cosine * s - along2, -pair.size2[j], pair.size2[j])
    s = jp.clip(along1 + cosine * t, -pair.size1[i], pair.size1[i])
    return corner1 + jp.where(own, s, 0), corner2 + t * direction

  either1 = (jp.abs(axis) < _AMBIGUOUS) & ~own
  either2 = (jp.abs(axis2) < _AMBIGUOUS) & ~other
  never = jp.zeros_like(own)
  pairs = [
    witnesses(flip1, flip2)
    for flip1 in (never, either1)
    for flip2 in (never, either2)
  ]
  points1, points2 = (jp.stack(x) for x in zip(*pairs, strict=True))
  gaps = points2 - points1
  best = jp.argmin((gaps * gaps).sum(axis=1))
  return gaps[best] @ axis, (points1[best] + points2[best]) / 2


def _face_contacts(
  pair: _Pair, face: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Contacts of the first box's face with the second box.

  Args:
    pair: the boxes, that of the face first.
    face: its axis, scalar.

  Returns:
    Distances `(8,)`, positions `(8, 3)` and the normal `(3,)`, in the frame of
    the first box.
  """
  x, y = jp.asarray(_NEXT)[face], jp.asarray(_AFTER)[face]
  rows = jp.stack([x, y, face])
  sign = jp.where(pair.offset[face] >= 0, 1, -1).astype(pair.offset.dtype)
  # The face of the second box that looks most against the normal.
  b = jp.argmax(jp.abs(pair.turn[face]))
  opposed = jp.where(sign * pair.turn[face, b] > 0, -1, 1)
  upward = jp.stack([jp.ones_like(sign), jp.ones_like(sign), sign])
  edges = (pair.turn * pair.size2)[rows] * upward[:, None]
  centre = pair.offset[rows] * upward + opposed * edges[:, b]
  centre = centre.at[2].add(-pair.size1[face])
  u, v = edges[:, jp.asarray(_NEXT)[b]], edges[:, jp.asarray(_AFTER)[b]]
  limit = pair.size1[rows[:2]]
  corners, valid = _overlap(centre, u, v, limit)
  valid &= corners[:, 2] <= 0
  valid &= ~_repeated(corners, valid, limit)
  # Valid ones first.
  _, order = jax.lax.top_k(valid.astype(jp.float32), CONTACTS)
  corners, valid = corners[order], valid[order]
  height = sign * (pair.size1[face] + corners[:, 2] / 2)
  pos = (
    jp.zeros_like(corners)
    .at[:, rows]
    .set(jp.concatenate([corners[:, :2], height[:, None]], axis=1))
  )
  normal = jp.where(jp.arange(3) == face, sign, 0)
  return jp.where(valid, corners[:, 2], 1), pos, normal


def _overlap(
  centre: jax.Array, u: jax.Array, v: jax.Array, limit: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Corners of a parallelogram's overlap with a rectangle.

  Args:
    centre: of the parallelogram, with its height, `(3,)`.
    u: half of a side, `(3,)`.
    v: half of the other, `(3,)`.
    limit: half sizes of the rectangle, `(2,)`.

  Returns:
    16 candidates `(16, 3)`, and which are corners, `(16,)`.
  """
  signs = jp.asarray(_SIGNS, centre.dtype)
  corners = centre + signs[:, :1] * u + signs[:, 1:] * v
  within = jp.abs(corners[:, :2]) <= limit * (1 + _ON_BORDER)
  inside = within.all(axis=1)
  # Where the parallelogram's sides enter and leave the rectangle.
  step = jp.roll(corners, -1, axis=0) - corners
  # A side along the border is within it or not, whichever way it is rounded.
  parallel = jp.abs(step[:, :2]) <= _ON_BORDER * limit
  rate = jp.where(parallel, 1, step[:, :2])
  low, high = (-limit - corners[:, :2]) / rate, (limit - corners[:, :2]) / rate
  always = jp.where(within, -jp.inf, jp.inf)
  enter = jp.where(parallel, always, jp.minimum(low, high)).max(axis=1)
  leave = jp.where(parallel, -always, jp.maximum(low, high)).min(axis=1)
  crosses = enter < leave
  entries = corners + jp.clip(enter, 0, 1)[:, None] * step
  exits = corners + jp.clip(leave, 0, 1)[:, None] * step
  entered = crosses & (enter > 0) & (enter < 1)
  left = crosses & (leave > 0) & (leave < 1)
  # The rectangle's corners, at the height of the parallelogram's plane.
  border = signs * limit
  apart = border - centre[:2]
  area = u[0] * v[1] - u[1] * v[0]
  area = jp.where(area == 0, 1, area)
  s = (apart[:, 0] * v[1] - apart[:, 1] * v[0]) / area
  t = (apart[:, 1] * u[0] - apart[:, 0] * u[1]) / area
  covered = (jp.abs(s) < 1) & (jp.abs(t) < 1)
  height = centre[2] + s * u[2] + t * v[2]
  border = jp.concatenate([border, height[:, None]], axis=1)
  return (
    jp.concatenate([corners, entries, exits, border]),
    jp.concatenate([inside, entered, left, covered]),
  )


def _repeated(
  corners: jax.Array, valid: jax.Array, limit: jax.Array
) -> jax.Array:
  """Which corners are an earlier valid one, `(16,)`."""
  apart = corners[:, None, :2] - corners[None, :, :2]
  near = (apart * apart).sum(axis=2) < _DUPLICATE * jp.dot(limit, limit)
  earlier = np.tri(len(corners), k=-1, dtype=bool)
  return (near & earlier & valid[None]).any(axis=1)
