"""Rays and height fields, which MJX's rangefinders do not see.

Along a ray, the height of the ray over the triangles of a field is linear
between the places where the ray, seen from above, crosses an edge. The edges
lie on three families of lines: rows, columns and diagonals. So the ray meets
the surface before the first crossing at which it is on the other side than
where it began, and after the crossing before that.

As in C, a ray also meets the sides of the field and the box under it, and
surfaces from either side. Source: `mj_rayHfield` in `engine_ray.c`.
"""

from typing import Any

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx.colliders import hfield

with runtime.quiet():
  from mujoco.mjx._src.types import GeomType, SensorType

_SLOWEST = 1e-7
"""Least speed over the grid, in cells a metre: for rays along its lines."""
_ROUNDING = 1e-6
"""Of a distance along a ray, relative."""
_NONE = -1.0
"""A rangefinder's reading where nothing is hit, as in C."""


def rangefinders(model: Any, data: Any) -> Any:
  """Lets rangefinders see height fields.

  Args:
    model: an MJX model.
    data: data with the sites' poses and the readings that MJX gives.

  Returns:
    Data whose readings are the distances of the nearest geoms.
  """
  fields = np.flatnonzero(np.asarray(model.geom_type) == GeomType.HFIELD)
  kinds = np.asarray(model.sensor_type)
  sensors = np.flatnonzero(kinds == SensorType.RANGEFINDER)
  if not len(fields) or not len(sensors):
    return data
  sites = np.asarray(model.sensor_objid)[sensors]
  bodies = np.asarray(model.site_bodyid)[sites]
  address = np.asarray(model.sensor_adr)[sensors]
  readings = data.sensordata[address]
  nearest = jp.where(readings == _NONE, jp.inf, readings)
  for geom in fields:
    own = bodies == np.asarray(model.geom_bodyid)[geom]
    origins = data.site_xpos[sites] - data.geom_xpos[geom]
    frame = data.geom_xmat[geom]
    distance = jax.vmap(
      lambda p, v, g=geom: distance_to(model, int(model.geom_dataid[g]), p, v)
    )(origins @ frame, data.site_xmat[sites, :, 2] @ frame)
    seen = ~own & _visible(model, int(geom))
    nearest = jp.minimum(nearest, jp.where(seen, distance, jp.inf))
  cutoff = np.asarray(model.sensor_cutoff)[sensors]
  nearest = jp.where(jp.isinf(nearest), _NONE, nearest)
  nearest = jp.where(cutoff > 0, jp.minimum(nearest, cutoff), nearest)
  return data.replace(sensordata=data.sensordata.at[address].set(nearest))


def _visible(model: Any, geom: int) -> jax.Array:
  """Whether rays meet a geom: C lets them pass transparent ones."""
  material, own = model.geom_matid[geom], model.geom_rgba[geom, 3]
  if not model.nmat:
    return own != 0
  shared = model.mat_rgba[material, 3]
  return jp.where(material < 0, own, shared) != 0


def distance_to(
  model: Any, field: int, origin: jax.Array, ray: jax.Array
) -> jax.Array:
  """Distance along a ray to a height field.

  Args:
    model: an MJX model.
    field: the height field.
    origin: of the ray in the field's frame, `(3,)`, metres.
    ray: its direction, a unit vector, `(3,)`.

  Returns:
    The distance, scalar; infinite if the ray passes by.
  """
  grid = hfield.Grid.of(model, field)
  surface = _surface(grid, origin, ray)
  return jp.minimum(surface, _walls(grid, origin, ray))


def _surface(grid: hfield.Grid, origin: jax.Array, ray: jax.Array) -> jax.Array:
  """Distance to the triangles, infinite for none."""
  cells = np.array([grid.columns - 1, grid.rows - 1])
  step = 2 * grid.extent / cells
  # Positions in units of cells, relative to a corner near the origin.
  corner, offset = grid.nearest(origin[:2])
  offset = offset / step
  speed = ray[:2] / step
  slow = jp.abs(speed) < _SLOWEST
  speed = jp.where(slow, jp.where(speed < 0, -_SLOWEST, _SLOWEST), speed)

  # Where the ray enters and leaves the field, seen from above.
  ends = jp.stack([-corner, cells - corner])
  passes = (ends - offset) / speed
  enters = jp.maximum(passes.min(axis=0).max(), 0)
  leaves = passes.max(axis=0).min()

  def over(at: jax.Array) -> jax.Array:
    """Height of the ray over the field anywhere in a cell."""
    place = jp.clip(offset + speed * at, ends[0], ends[1])
    low = jp.clip(jp.floor(place), ends[0], ends[1] - 1)
    x, y = place - low
    column, row = (low + corner).astype(jp.int32)
    z00, z11 = grid.height(row, column), grid.height(row + 1, column + 1)
    first = x > y
    side = grid.height(row + ~first, column + first)
    long, short = jp.maximum(x, y), jp.minimum(x, y)
    height = z00 + (side - z00) * long + (z11 - side) * short
    return origin[2] + ray[2] * at - height

  def crossings(way: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Crossings of a family of lines, and the ray's height over them there.

    Args:
      way: columns and rows from one corner on a line to the next.
    """
    axis = 0 if way[0] else 1
    # A line's number is its column, its row, or a column less the row.
    if way == (1, 1):
      line = jp.arange(1 - grid.rows, grid.columns) + (corner[1] - corner[0])
      start, rate = offset[0] - offset[1], speed[0] - speed[1]
    else:
      line = jp.arange((grid.columns, grid.rows)[1 - axis]) - corner[1 - axis]
      start, rate = offset[1 - axis], speed[1 - axis]
    at = (line - start) / jp.where(jp.abs(rate) < _SLOWEST, _SLOWEST, rate)
    along = offset[axis] + speed[axis] * at
    low = jp.clip(jp.floor(along), ends[0, axis], ends[1, axis] - 1)
    columns, rows = {
      (0, 1): (line, low),
      (1, 0): (low, line),
      (1, 1): (low, low - line),
    }[way]
    column, row = (
      (x + y).astype(jp.int32)
      for x, y in zip((columns, rows), corner, strict=True)
    )
    # Diagonals are longer than the field.
    inside = (row >= 0) & (row + way[1] < grid.rows)
    inside &= (at >= enters) & (at <= leaves * (1 + _ROUNDING))
    first = grid.height(row, column)
    second = grid.height(row + way[1], column + way[0])
    height = first + (second - first) * jp.clip(along - low, 0, 1)
    return jp.where(inside, at, jp.inf), origin[2] + ray[2] * at - height

  found = [crossings(way) for way in ((0, 1), (1, 0), (1, 1))]
  at, height = (jp.concatenate(x) for x in zip(*found, strict=True))
  begins = over(enters)
  at = jp.concatenate([enters[None], at])
  height = jp.concatenate([begins[None], height])
  other = jp.where(begins < 0, height >= 0, height < 0)
  after = jp.argmin(jp.where(other, at, jp.inf))
  hit = other[after] & (at[after] < jp.inf) & (enters <= leaves)
  before = jp.argmax(jp.where(~other & (at <= at[after]), at, -jp.inf))
  low, high = height[before], height[after]
  share = low / jp.where(low == high, 1, low - high)
  distance = at[before] + (at[after] - at[before]) * share
  return jp.where(hit, distance, jp.inf)


def _walls(grid: hfield.Grid, origin: jax.Array, ray: jax.Array) -> jax.Array:
  """Distance to the box under a field and to the field's sides."""
  x, y = grid.extent
  under = jp.array([[-x, -y, -grid.base], [x, y, 0]], origin.dtype)
  above = jp.array([[-x, -y, 0], [x, y, grid.top]], origin.dtype)
  at = _faces(under, origin, ray)[0].min()
  sides, points = _faces(above, origin, ray)
  points = points[:, :2]
  last = np.array([grid.columns - 1, grid.rows - 1])
  step = 2 * grid.extent / last
  for axis in (0, 1):
    other = 1 - axis
    place = (points[:, axis, other] + grid.extent[other]) / step[other]
    low = jp.clip(jp.floor(place), 0, last[other] - 1)
    line = np.array([0, last[axis]])

    def height(index, axis=axis, line=line):
      index = index.astype(jp.int32)
      return grid.height(index, line) if axis == 0 else grid.height(line, index)

    edge = height(low) + (height(low + 1) - height(low)) * (place - low)
    meets = points[:, axis, 2] < edge
    at = jp.minimum(at, jp.where(meets, sides[:, axis], jp.inf).min())
  return at


def _faces(
  box: jax.Array, origin: jax.Array, ray: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Where a ray meets the faces of a box.

  Args:
    box: its least and largest coordinates, `(2, 3)`.
    origin: of the ray.
    ray: its direction.

  Returns:
    Distances, infinite where it passes by, and the points: `(2, 3)` and
    `(2, 3, 3)`, by end and axis.
  """
  still = ray == 0
  at = (box - origin) / jp.where(still, 1, ray)
  points = origin + at[:, :, None] * ray
  within = (points >= box[0]) & (points <= box[1]) | np.eye(3, dtype=bool)
  meets = within.all(axis=2) & (at >= 0) & ~still
  return jp.where(meets, at, jp.inf), points
