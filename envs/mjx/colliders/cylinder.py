"""Contacts of cylinders with capsules, ellipsoids and boxes, as C has them.

MJX descends signed distance fields for the first two, and has no collider for
the third. C finds the deepest contact by GJK and EPA (`smooth`), and others
where faces and edges nearly lie on each other: here they are those of capsules
on faces of cylinders, not those of boxes.

A cylinder's support function is R |(n_x, n_y)| + H |n_z| about its axis: that
of an ellipsoid without height and of a segment, for `separation`. The faces'
normals are directions in which it has a corner.
"""

import itertools

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx.colliders import separation, smooth

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_types import Collision, GeomInfo

_CORNERS = list(itertools.product((-1, 1), repeat=3))
_PARALLEL = 0.0888
"""Largest cosine of a capsule's and a cylinder's axis at which C 3.17 has two
contacts on a face: found by bisection."""
_SIDES = 16
"""Of the polygon that C takes for a face."""
_ZERO = 1e-5
"""A cosine of zero, but for rounding."""


def _outwards(
  point: jax.Array, radius: jax.Array, height: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Signed distance of a point from a cylinder, and its gradient.

  Args:
    point: `(3,)`, in the cylinder's frame.
    radius: of the cylinder.
    height: half of it.
  """
  across = jp.sqrt(point[0] * point[0] + point[1] * point[1])
  along = jp.where(point[2] < 0, -1, 1).astype(point.dtype)
  beside, above = across - radius, jp.abs(point[2]) - height
  # Inside, the nearest of side and faces.
  side = jp.where((beside < 0) & (above < 0), beside > above, beside > 0)
  face = jp.where((beside < 0) & (above < 0), ~side, above > 0)
  x, z = jp.where(side, beside, 0), jp.where(face, above, 0)
  outside = jp.sqrt(x * x + z * z)
  distance = jp.where(side & face, outside, x + z)
  safe = jp.where(outside > 0, outside, 1)
  # On the surface the gradient is that of the face.
  x = jp.where(outside > 0, x / safe * jp.sign(distance), 0)
  z = jp.where(outside > 0, z / safe * jp.sign(distance), 1) * along
  x = x / jp.where(across > 0, across, 1)
  return distance, jp.stack([x * point[0], x * point[1], z])


def capsule_cylinder(capsule: GeomInfo, cylinder: GeomInfo) -> Collision:
  """At most two contacts.

  One is at the point of the capsule's segment nearest the cylinder: the signed
  distance from a convex body is convex along it, so that its slope is bisected.
  Of a segment that enters the cylinder, the depth is that of its deepest point.
  A capsule nearly parallel to the face that it touches has instead the two ends
  of what lies on the face.
  """
  radius, height = cylinder.size[0], cylinder.size[1]
  centre = cylinder.mat.T @ (capsule.pos - cylinder.pos)
  axis = cylinder.mat.T @ capsule.mat[:, 2]
  half = axis * capsule.size[1]
  low, high = -jp.ones_like(radius), jp.ones_like(radius)
  for _ in range(jp.finfo(radius.dtype).nmant + 2):
    middle = (low + high) / 2
    _, gradient = _outwards(centre + middle * half, radius, height)
    falling = gradient @ half < 0
    low, high = jp.where(falling, middle, low), jp.where(falling, high, middle)
  point = centre + (low + high) / 2 * half
  distance, gradient = _outwards(point, radius, height)
  dist = distance - capsule.size[0]
  pos = point + gradient * (dist / 2 - distance)

  outward = jp.sign(gradient[2])
  line = centre - capsule.size[0] * (gradient - axis * (gradient @ axis))
  on_face, ends = _on_face(line, half, radius)
  dists = outward * ends[:, 2] - height
  parallel = (jp.abs(axis[2]) < _PARALLEL) & (outward != 0) & on_face
  parallel &= dists.min() < 0
  face = jp.zeros_like(axis).at[2].set(outward)
  dists = jp.where(parallel, dists, jp.stack([dist, jp.ones_like(dist)]))
  pos = jp.where(parallel, ends - face * dists[:, None] / 2, pos)
  frame = math.make_frame(cylinder.mat @ -jp.where(parallel, face, gradient))
  pos = pos @ cylinder.mat.T + cylinder.pos
  return dists, pos, jp.stack([frame, frame])


def _on_face(
  line: jax.Array, half: jax.Array, radius: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """The part of a segment over a face, which C takes as a polygon.

  Args:
    line: its middle, `(3,)`, in the cylinder's frame.
    half: half of it, `(3,)`.
    radius: of the cylinder.

  Returns:
    Whether there is one, and its ends, `(2, 3)`.
  """
  side = 2 * np.pi / _SIDES
  angle = side * (np.arange(_SIDES) + 0.5)
  normals = jp.asarray([np.cos(angle), np.sin(angle)], line.dtype)
  room = radius * np.cos(side / 2) - line[:2] @ normals
  slope = half[:2] @ normals
  where = room / jp.where(slope != 0, slope, 1)
  low = jp.where(slope < 0, where, -1).max()
  high = jp.where(slope > 0, where, 1).min()
  along = (slope == 0) & (room < 0)
  ends = line + jp.stack([low, high])[:, None] * half
  return (low <= high) & ~along.any(), ends


def with_ellipsoid(ellipsoid: GeomInfo, cylinder: GeomInfo) -> smooth.Problem:
  """Of an ellipsoid and a cylinder; the cylinder is the first body."""
  radius, height = cylinder.size[0], cylinder.size[1]
  scale = jp.maximum(jp.maximum(radius, height), ellipsoid.size.max())
  none = jp.zeros_like(scale)
  factors = [
    (cylinder.mat.T @ ellipsoid.mat) * (ellipsoid.size / scale),
    jp.diag(jp.stack([radius, radius, none])) / scale,
  ]
  offset = cylinder.mat.T @ (ellipsoid.pos - cylinder.pos) / scale
  shapes = separation.Shapes.of(
    offset,
    factors,
    jp.stack([none, none, height]) / scale,
    [jp.array([0.0, 0.0, 1.0], offset.dtype)],
  )
  return smooth.Problem(shapes, none, scale, cylinder.pos, cylinder.mat)


def with_box(cylinder: GeomInfo, box: GeomInfo) -> smooth.Problem:
  """Of a cylinder and a box; the box is the first body."""
  radius, height = cylinder.size[0], cylinder.size[1]
  scale = jp.maximum(jp.maximum(radius, height), box.size.max())
  none = jp.zeros_like(scale)
  turn = box.mat.T @ cylinder.mat
  factors = [
    turn * jp.stack([radius, radius, none]) / scale,
    turn * jp.stack([none, none, height]) / scale,
  ]
  offset = box.mat.T @ (cylinder.pos - box.pos) / scale
  axis, half = turn[:, 2], box.size / scale
  # The cylinder's faces, and its side at an edge or a corner of the box.
  corners = offset - half * jp.asarray(_CORNERS, half.dtype)
  sharp = [
    axis,
    *(jp.cross(axis, edge) for edge in jp.eye(3, dtype=axis.dtype)),
    *(x - axis * jp.dot(axis, x) for x in corners),
  ]
  shapes = separation.Shapes.of(offset, factors, half, sharp)
  return smooth.Problem(shapes, none, scale, box.pos, box.mat)


def ellipsoid_cylinder(ellipsoid: GeomInfo, cylinder: GeomInfo) -> Collision:
  """One contact of an ellipsoid and a cylinder."""
  dist, pos, normal = smooth.contact(with_ellipsoid(ellipsoid, cylinder))
  return dist, pos, math.make_frame(-normal)


def cylinder_box(cylinder: GeomInfo, box: GeomInfo) -> Collision:
  """One contact of a cylinder and a box.

  Where a face or an edge lies on a face, C has up to four.
  """
  dist, _, normal = smooth.contact(with_box(cylinder, box))
  axis, centre, out = (
    box.mat.T @ x for x in (cylinder.mat[:, 2], cylinder.pos - box.pos, normal)
  )
  free = jp.abs(out) < _ZERO
  corner = jp.where(free, 0, jp.sign(out) * box.size)
  # The point of an edge that is nearest to the axis; of a face, to the centre.
  apart = centre - corner
  along = (apart - axis * jp.dot(axis, apart)) / jp.maximum(
    1 - axis * axis, _ZERO
  )
  along = jp.where(jp.sum(free) == 1, along, centre)
  along = jp.clip(along, -box.size, box.size)
  on_box = jp.where(free, along, corner)
  # The point of the rim, if it is only one.
  height = jp.dot(axis, out)
  across = out - axis * height
  rim = centre - jp.sign(height) * axis * cylinder.size[1]
  rim -= math.normalize(across) * cylinder.size[0]
  one = (jp.abs(height) > _ZERO) & (jp.dot(across, across) > _ZERO**2)
  pos = jp.where(free.any() & one, rim - out * dist, on_box) + out * dist / 2
  return dist, box.mat @ pos + box.pos, math.make_frame(-normal)
