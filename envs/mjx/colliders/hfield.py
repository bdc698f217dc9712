"""Contacts with height fields as C MuJoCo has them.

MJX has at most four contacts for a pair, of all prisms of the field under a
geom the deepest, and no collider for ellipsoids and cylinders. C has one for
each prism that touches (`prism`), at most 50.

A window of cells, as large as the geom, lies under each geom; prisms outside
cannot touch it. Faces prove most of the window's prisms apart. For those of a
group of pairs that come nearest by this measure, `EXACT` of them, the contacts
are computed. That is exact while no more are left unproven.

Margins are not looked at; the suite's geoms have none.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import vectors
from mjx_crossq.envs.mjx.colliders import prism
from mjx_crossq.envs.mjx.vectors import Vector

with runtime.quiet():
  from mujoco.mjx._src.types import GeomType

EXACT = 32
"""Prisms of a group for which contacts are computed."""
_TRIANGLES = np.array([[(1, 0), (0, 0), (1, 1)], [(0, 0), (0, 1), (1, 1)]])
"""Rows and columns of the corners of a cell's triangles, relative to it."""


class Found(NamedTuple):
  """Contacts of a group.

  Attributes:
    distance: `(n,)`, metres.
    position: metres.
    normal: from the field to the geom.
    pair: number of the pair, `(n,)`.
    missed: how many more may touch.
  """

  distance: jax.Array
  position: Vector
  normal: Vector
  pair: jax.Array
  missed: jax.Array


def _body(kind: int, size: jax.Array, axes: tuple) -> prism.Body:
  """Geoms of a type, in the frame of the field.

  Args:
    kind: a `GeomType`.
    size: `(n, 3)`.
    axes: the geoms' axes, `(n,)` each.
  """
  a, b, c = vectors.split(size)
  match kind:
    case GeomType.SPHERE:
      return prism.Round(axes[2], jp.zeros_like(a), a)
    case GeomType.CAPSULE:
      return prism.Round(axes[2], b, a)
    case GeomType.ELLIPSOID:
      return prism.Ellipsoid(axes, (a, b, c))
    case GeomType.CYLINDER:
      return prism.Cylinder(axes, a, b)
  raise NotImplementedError(f'Height fields and geoms of type {kind}.')


def windows(
  model: Any, field: int, place: Vector, half: tuple[int, int]
) -> prism.Prisms:
  """The prisms of the cells under geoms.

  Args:
    model: an MJX model.
    field: the height field.
    place: the geoms' centres in its frame, `(n,)` each.
    half: cells of a window along x and y.

  Returns:
    The prisms, `(3, n * k)`: those of one geom after those of another.
  """
  rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
  size = np.asarray(model.hfield_size[field])
  start = int(model.hfield_adr[field])
  heights = model.hfield_data[start : start + rows * columns]
  dtype = place[0].dtype
  across, down = (min(x, y - 1) for x, y in zip(half, (columns, rows)))

  def first(at: jax.Array, extent: float, cells: int, width: int) -> jax.Array:
    step = 2 * extent / cells
    cell = jp.round((at + extent) / step - width / 2).astype(jp.int32)
    return jp.clip(cell, 0, cells - width)

  column = first(place[0], size[0], columns - 1, across)
  row = first(place[1], size[1], rows - 1, down)
  cells = np.stack(np.meshgrid(*map(np.arange, (down, across)), indexing='ij'))
  corners = cells.reshape(2, -1, 1, 1) + _TRIANGLES.transpose(2, 0, 1)[:, None]
  # Corners of the window's triangles, (3, k), and of all windows, (3, n, k).
  corners = corners.reshape(2, -1, 3).transpose(0, 2, 1)
  r = row[:, None] + corners[0][:, None]
  c = column[:, None] + corners[1][:, None]
  x, y = (
    (np.arange(count) / (count - 1) * 2 - 1) * extent
    for count, extent in ((columns, size[0]), (rows, size[1]))
  )
  shape = (3, -1)
  base = -size[3] - place[2][:, None]
  return prism.Prisms(
    (jp.asarray(x, dtype)[c] - place[0][:, None]).reshape(shape),
    (jp.asarray(y, dtype)[r] - place[1][:, None]).reshape(shape),
    (heights[r * columns + c] * size[2] - place[2][:, None]).reshape(shape),
    jp.broadcast_to(base, r.shape[1:]).ravel(),
  )


def contacts(model: Any, data: Any, key: Any, geoms: jax.Array) -> Found:
  """Contacts of a group: height fields and geoms of one type.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    key: of the group, as MJX has it.
    geoms: the pairs, `(n, 2)`.

  Returns:
    The contacts.
  """
  field, geom = geoms[:, 0], geoms[:, 1]
  frame = data.geom_xmat[field]
  apart = data.geom_xpos[geom] - data.geom_xpos[field]
  place = vectors.split(jp.einsum('nji,nj->ni', frame, apart))
  turn = jp.einsum('nji,njk->nik', frame, data.geom_xmat[geom])
  prisms = windows(model, key.data_ids[0], place, key.subgrid_size)
  each = prisms.base.size // len(geoms)
  pair = np.repeat(np.arange(len(geoms)), each)
  axes = tuple(vectors.split(turn[:, :, i]) for i in range(3))
  body = _body(key.types[1], model.geom_size[geom], axes)
  many = jax.tree.map(lambda x: x[pair], body)
  bound = prism.bound(many, prisms)
  room = min(EXACT, len(pair))
  _, nearest = jax.lax.top_k(-bound, room)
  missed = jp.sum(bound < 0, dtype=jp.int32) - room
  chosen = jax.tree.map(lambda x: x[nearest], many)
  distance, position, normal = prism.contacts(chosen, prisms.take(nearest))
  pair = jp.asarray(pair)[nearest]
  position = vectors.add(position, tuple(c[pair] for c in place))

  def outwards(a: Vector) -> Vector:
    return vectors.split(
      jp.einsum('nij,nj->ni', frame[pair], vectors.join(*a))
    )

  position = vectors.add(
    outwards(position), vectors.split(data.geom_xpos[field[pair]])
  )
  missed = jp.maximum(missed, 0)
  return Found(distance, position, outwards(normal), pair, missed)
