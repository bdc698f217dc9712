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
from mjx_crossq.envs.mjx.colliders import prism, prism_geoms
from mjx_crossq.envs.mjx.vectors import Vector

with runtime.quiet():
  from mujoco.mjx._src.types import GeomType

KINDS = (
  GeomType.SPHERE,
  GeomType.CAPSULE,
  GeomType.ELLIPSOID,
  GeomType.CYLINDER,
)
"""Types of geoms whose contacts with height fields are computed."""
EXACT = 32
"""Prisms of a group for which contacts are computed."""
SLOTS = 50
"""Contacts of a pair that C keeps."""
_TRIANGLES = np.array([[(0, 1), (0, 0), (1, 1)], [(0, 0), (1, 0), (1, 1)]])
"""Columns and rows of the corners of a cell's triangles, relative to it."""


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
      return prism_geoms.Round(axes[2], jp.zeros_like(a), a)
    case GeomType.CAPSULE:
      return prism_geoms.Round(axes[2], b, a)
    case GeomType.ELLIPSOID:
      return prism_geoms.Ellipsoid(axes, (a, b, c))
    case GeomType.CYLINDER:
      return prism_geoms.Cylinder(axes, a, b)
  raise NotImplementedError(f'Height fields and geoms of type {kind}.')


class Grid(NamedTuple):
  """A height field.

  Attributes:
    rows: corners along y.
    columns: corners along x.
    extent: half sizes along x and y, metres.
    top: height of a corner whose datum is one.
    base: thickness of the box under the field.
    data: the corners' heights by row, in units of `top`.
  """

  rows: int
  columns: int
  extent: np.ndarray
  top: float
  base: float
  data: jax.Array

  @classmethod
  def of(cls, model: Any, field: int) -> 'Grid':
    """One of a model's."""
    rows, columns = int(model.hfield_nrow[field]), int(model.hfield_ncol[field])
    size = np.asarray(model.hfield_size, np.float64)[field]
    start = int(model.hfield_adr[field])
    data = model.hfield_data[start : start + rows * columns]
    return cls(rows, columns, size[:2], float(size[2]), float(size[3]), data)

  def height(self, row: Any, column: Any) -> jax.Array:
    """Of corners, metres."""
    return self.data[row * self.columns + column] * self.top

  def from_line(self, at: jax.Array, line: jax.Array, axis: int) -> jax.Array:
    """Positions relative to lines of the grid, exact where they are near.

    Args:
      at: coordinates, metres.
      line: numbers of lines.
      axis: 0 for columns, 1 for rows.
    """
    count = (self.columns, self.rows)[axis]
    exact = (np.arange(count) / (count - 1) * 2 - 1) * self.extent[axis]
    high = exact.astype(at.dtype)
    low = (exact - high).astype(at.dtype)
    return at - jp.asarray(high)[line] - jp.asarray(low)[line]

  def nearest(self, at: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The corner nearest to a point.

    Args:
      at: `(2,)`, metres.

    Returns:
      Its column and row, `(2,)`, and the position relative to it.
    """
    cells = np.array([self.columns - 1, self.rows - 1])
    step = 2 * self.extent / cells
    corner = jp.clip(jp.round((at + self.extent) / step), 0, cells)
    line = corner.astype(jp.int32)
    offset = [self.from_line(at[i], line[i], i) for i in (0, 1)]
    return corner, jp.stack(offset)


def windows(grid: Grid, place: Vector, width: tuple[int, int]) -> prism.Prisms:
  """The prisms of the cells under geoms.

  Args:
    grid: the height field.
    place: the geoms' centres in its frame, `(n,)` each.
    width: cells of a window along x and y.

  Returns:
    The prisms, `(3, n * k)`: those of one geom after those of another.
  """
  cells = np.array([grid.columns - 1, grid.rows - 1])
  count = np.minimum(width, cells)
  first = []
  for i in (0, 1):
    step = 2 * grid.extent[i] / cells[i]
    middle = (place[i] + grid.extent[i]) / step
    start = jp.round(middle - count[i] / 2).astype(jp.int32)
    first.append(jp.clip(start, 0, cells[i] - count[i]))
  # Columns and rows of the window's triangles' corners, (3, k).
  each = np.stack(np.meshgrid(*map(np.arange, count)))
  corners = each[:, None, :, :, None] + _TRIANGLES.T[:, :, None, None]
  corners = corners.reshape(2, 3, 1, -1)
  column, row = (
    start[:, None] + corner
    for start, corner in zip(first, corners, strict=True)
  )
  shape = (3, -1)
  centre = tuple(c[:, None] for c in place)
  base = jp.broadcast_to(-grid.base - centre[2], row.shape[1:])
  return prism.Prisms(
    -grid.from_line(centre[0], column, 0).reshape(shape),
    -grid.from_line(centre[1], row, 1).reshape(shape),
    (grid.height(row, column) - centre[2]).reshape(shape),
    base.ravel(),
  )


def contacts(model: Any, data: Any, key: Any, geoms: jax.Array) -> Found:
  """Contacts of a group: height fields and geoms of one type.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    key: of the group, as MJX has it.
    geoms: the pairs, `(n, 2)`.

  Returns:
    Contacts of the `EXACT` prisms that come nearest, touching or not.
  """
  field, geom = geoms[:, 0], geoms[:, 1]
  frame = data.geom_xmat[field]
  apart = data.geom_xpos[geom] - data.geom_xpos[field]
  place = vectors.split(jp.einsum('nji,nj->ni', frame, apart))
  turn = jp.einsum('nji,njk->nik', frame, data.geom_xmat[geom])
  grid = Grid.of(model, key.data_ids[0])
  prisms = windows(grid, place, key.subgrid_size)
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
    return vectors.split(jp.einsum('nij,nj->ni', frame[pair], vectors.join(*a)))

  position = vectors.add(
    outwards(position), vectors.split(data.geom_xpos[field[pair]])
  )
  missed = jp.maximum(missed, 0)
  return Found(distance, position, outwards(normal), pair, missed)


def slots(model: Any, data: Any, key: Any, geoms: jax.Array) -> Any:
  """Stands for these colliders in MJX's table, which decides about room.

  `contacts.collision` calls `contacts` instead.

  Raises:
    NotImplementedError: always.
  """
  raise NotImplementedError('MJX keeps as many contacts of each pair.')


slots.ncon = SLOTS  # pyright: ignore
