"""Contacts of all pairs of geoms, spheres and capsules all at once.

MJX computes one kind of pair after the other, some ten operations each, and
then gathers every property of the contacts that it keeps. Here a sphere is a
capsule without length: one elementwise function finds the contacts of all their
pairs, and another those with planes, one for each end. Pairs with ellipsoids
are solved together too. Others go to the colliders of MJX's table, as in MJX's
`collision`, and those with height fields to `hfield`. Only the order differs.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import colliders, shortfalls, tree, vectors
from mjx_crossq.envs.mjx.colliders import hfield
from mjx_crossq.envs.mjx.vectors import Vector

with runtime.quiet():
  from mujoco.mjx._src import collision_driver
  from mujoco.mjx._src.types import GeomType

_ROUND = (GeomType.SPHERE, GeomType.CAPSULE)
_PARAMETERS = (
  'includemargin',
  'friction',
  'solref',
  'solreffriction',
  'solimp',
)
"""Properties of a contact that follow from its geoms."""
_FAR = 1e3
"""The distance of contacts that fill slots, metres."""


class _Found(NamedTuple):
  """Contacts of one condim.

  Attributes:
    place: distance, position and frame, `(n, 13)`.
    parameters: the `_PARAMETERS`, one after the other, `(n, 15)`.
    geoms: the pairs, `(n, 2)`.
  """

  place: jax.Array
  parameters: jax.Array
  geoms: jax.Array

  def take(self, index: Any) -> '_Found':
    """Those with these numbers."""
    return jax.tree.map(lambda x: x[index], self)

  def padded(self, count: int) -> '_Found':
    """These and so many more that do not touch that they are `count`."""
    number, own = jp.arange(count), len(self.geoms)
    whole = self.take(jp.minimum(number, own - 1))
    far = number >= own
    distance = jp.where(far, _FAR, whole.place[:, 0])
    return whole._replace(place=whole.place.at[:, 0].set(distance))


def _joined(parts: list[_Found]) -> _Found:
  """All contacts of some lists."""
  return jax.tree.map(lambda *x: jp.concatenate(x), *parts)


def _unit(a: Vector) -> tuple[Vector, jax.Array]:
  """A vector of length one, and the length; zero gives the x axis, as in C."""
  length = jp.sqrt(vectors.dot(a, a))
  zero = length == 0
  inverse = 1 / jp.where(zero, 1, length)
  x, y, z = vectors.scale(a, inverse)
  return (jp.where(zero, 1, x), y, z), length


def _tangent(normal: Vector) -> Vector:
  """A direction in the plane of a contact, as C's `mju_makeFrame` has it."""
  side = jp.abs(normal[1]) < 0.5
  zero = jp.zeros_like(normal[0])
  start = (zero, jp.where(side, 1.0, 0.0), jp.where(side, 0.0, 1.0))
  along = vectors.dot(normal, start)
  return _unit(vectors.subtract(start, vectors.scale(normal, along)))[0]


def _place(
  distance: jax.Array, position: Vector, normal: Vector, tangent: Vector
) -> jax.Array:
  """The `place` of contacts."""
  third = vectors.cross(normal, tangent)
  return vectors.join(distance, *position, *normal, *tangent, *third)


class _Capsules(NamedTuple):
  """Capsules, and spheres as those of no length.

  Attributes:
    centre: of the segment.
    half: half of the segment, as a vector.
    axis: its direction.
    radius: of the surface about it.
  """

  centre: Vector
  half: Vector
  axis: Vector
  radius: jax.Array


def _capsules(model: Any, data: Any, geoms: np.ndarray) -> _Capsules:
  """Those of some geoms."""
  capsule = np.asarray(model.geom_type)[geoms] == GeomType.CAPSULE
  axis = vectors.split(data.geom_xmat[geoms, :, 2])
  size = model.geom_size[geoms]
  length = jp.where(capsule, size[:, 1], 0)
  centre = vectors.split(data.geom_xpos[geoms])
  return _Capsules(centre, vectors.scale(axis, length), axis, size[:, 0])


def _on_planes(
  model: Any, data: Any, pairs: np.ndarray, end: np.ndarray
) -> jax.Array:
  """Contacts of the ends of capsules with planes.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    pairs: planes and capsules or spheres, `(n, 2)`.
    end: 1 or -1, the end of a capsule; 0 for a sphere, `(n,)`.

  Returns:
    The `place` of the contacts, `(n, 13)`.
  """
  plane, geom = pairs.T
  body = _capsules(model, data, geom)
  normal = vectors.split(data.geom_xmat[plane, :, 2])
  at = vectors.add(body.centre, vectors.scale(body.half, jp.asarray(end)))
  apart = vectors.subtract(at, vectors.split(data.geom_xpos[plane]))
  distance = vectors.dot(apart, normal) - body.radius
  depth = body.radius + distance / 2
  position = vectors.subtract(at, vectors.scale(normal, depth))
  # A capsule's friction directions follow its axis (mujoco issue 2774).
  along = vectors.dot(normal, body.axis)
  flat = vectors.subtract(body.axis, vectors.scale(normal, along))
  tangent = tuple(
    jp.where(end == 0, a, b)
    for a, b in zip(_tangent(normal), _unit(flat)[0], strict=True)
  )
  return _place(distance, position, normal, tangent)


def _between(model: Any, data: Any, pairs: np.ndarray) -> jax.Array:
  """Contacts of capsules or spheres with each other.

  Exactly parallel capsules have two contacts in C and one here, as in MJX.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    pairs: the geoms, `(n, 2)`.

  Returns:
    The `place` of the contacts, `(n, 13)`.
  """
  first, second = (_capsules(model, data, geoms) for geoms in pairs.T)
  # Minimise |apart + x1 half1 - x2 half2|: a symmetric 2 x 2 system.
  apart = vectors.subtract(first.centre, second.centre)
  a = vectors.dot(first.half, first.half)
  b = -vectors.dot(first.half, second.half)
  c = vectors.dot(second.half, second.half)
  u, v = -vectors.dot(first.half, apart), vectors.dot(second.half, apart)

  def quotient(x: jax.Array, y: jax.Array) -> jax.Array:
    return jp.where(y > 0, x / jp.where(y > 0, y, 1), 1)

  x1 = jp.clip(quotient(c * u - b * v, a * c - b * b), -1, 1)
  # Clip one, solve for the other, and if that leaves, the other way round.
  x2 = quotient(v - b * x1, c)
  inside = jp.abs(x2) <= 1
  x2 = jp.clip(x2, -1, 1)
  x1 = jp.where(inside, x1, jp.clip(quotient(u - b * x2, a), -1, 1))
  x1, x2 = tree.apart((x1, x2))
  start = vectors.add(first.centre, vectors.scale(first.half, x1))
  end = vectors.add(second.centre, vectors.scale(second.half, x2))
  normal, length = tree.apart(_unit(vectors.subtract(end, start)))
  distance = length - first.radius - second.radius
  reach = first.radius + distance / 2
  position = vectors.add(start, vectors.scale(normal, reach))
  return _place(distance, position, normal, _tangent(normal))


def _nearest(
  model: Any, data: Any, key: Any, contact: Any, most: int
) -> tuple[jax.Array, jax.Array, jax.Array | int]:
  """The pairs of a group that are looked at, as in MJX.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    key: of the group: types of geoms and condim.
    contact: the group's pairs, with their parameters.
    most: pairs that are looked at; -1 for all.

  Returns:
    The pairs, their `parameters`, and how many others may touch: those whose
    bounding spheres overlap.
  """
  geoms, parameters = contact.geom, _parameters(contact)
  whole = collision_driver._GEOM_NO_BROADPHASE
  if not -1 < most < len(geoms) or set(key.types) & whole:
    return geoms, parameters, 0
  first, second = data.geom_xpos[geoms.T]
  gap = jp.linalg.norm(second - first, axis=1)
  gap -= model.geom_rbound[geoms].sum(axis=1)
  missed = jp.maximum(jp.sum(gap < 0, dtype=jp.int32) - most, 0)
  _, index = jax.lax.top_k(-gap, most)
  return geoms[index], parameters[index], missed


def _by_table(
  model: Any, data: Any, key: Any, geoms: jax.Array, parameters: jax.Array
) -> tuple[_Found, jax.Array | int]:
  """Contacts of pairs of one kind, by the collider in MJX's table.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    key: of the group: types of geoms and condim.
    geoms: the pairs, `(n, 2)`.
    parameters: theirs.

  Returns:
    The contacts, and how many pairs were left undecided.
  """
  collide = collision_driver._COLLISION_FUNC[key.types]
  exact = getattr(collide, 'exact_pairs', None)
  place, undecided = _placed(collide(model, data, key, geoms), exact)
  count = collide.ncon  # pyright: ignore
  found = _Found(
    place,
    jp.repeat(parameters, count, axis=0),
    jp.repeat(geoms, count, axis=0),
  )
  return found, undecided


def _placed(
  contacts: Any, exact: int | None
) -> tuple[jax.Array, jax.Array | int]:
  """The `place` of a collider's contacts, and how many it left undecided.

  Args:
    contacts: the collider's distances, positions and frames.
    exact: pairs that it solves exactly; None for all.
  """
  distance, position, frame = contacts
  undecided = 0
  if exact is not None and len(distance) > exact:
    undecided = jp.sum(distance == colliders.UNKNOWN, dtype=jp.int32)
  parts = [distance[:, None], position, frame.reshape(-1, 9)]
  return jp.concatenate(parts, axis=1), undecided


def _on_fields(
  model: Any, data: Any, key: Any, contact: Any
) -> tuple[_Found, jax.Array | int]:
  """Contacts with a height field, and how many more there may be."""
  found = hfield.contacts(model, data, key, contact.geom)
  place = _place(
    found.distance, found.position, found.normal, _tangent(found.normal)
  )
  parameters = _parameters(contact)[found.pair]
  return _Found(place, parameters, contact.geom[found.pair]), found.missed


def _parameters(contact: Any) -> jax.Array:
  """The `parameters` of contacts."""
  count = len(contact.geom)
  parts = [getattr(contact, name).reshape(count, -1) for name in _PARAMETERS]
  return jp.concatenate(parts, axis=1)


def _add(found: dict[int, list[_Found]], condim: np.ndarray, whole: _Found):
  """Adds contacts to those of their condims, `(n,)`."""
  for dim in np.unique(condim):
    part = whole.take(np.flatnonzero(condim == dim))
    found.setdefault(int(dim), []).append(part)


def collision(model: Any, data: Any) -> Any:
  """Finds the contacts of all geoms that may collide.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.

  Returns:
    Data with its `contact`, and with a count of the contacts that it has no
    room for (`shortfalls`).
  """
  template = data._impl.contact
  if not data._impl.ncon:
    return data
  groups = collision_driver._contact_groups(model, data)
  ids = collision_driver._geom_groups(model)
  found: dict[int, list[_Found]] = {}
  dropped: jax.Array | int = 0
  planes, pairs, ellipsoids = [], [], []
  most = collision_driver._numeric(model, 'max_geom_pairs')
  for key, contact in groups.items():
    geoms = np.array(ids[key])[:, :2]
    if key.types[0] == GeomType.HFIELD:
      part, missed = _on_fields(model, data, key, contact)
      found.setdefault(int(key.condim), []).append(part)
      dropped += missed
    elif key.types[1] not in _ROUND:
      near, parameters, missed = _nearest(model, data, key, contact, most)
      dropped += missed
      if key.types in colliders.WITH_ELLIPSOID:
        ellipsoids.append((key.condim, key.types, near, parameters))
        continue
      part, missed = _by_table(model, data, key, near, parameters)
      found.setdefault(int(key.condim), []).append(part)
      dropped += missed
    elif key.types[0] == GeomType.PLANE:
      ends = (1, -1) if key.types[1] == GeomType.CAPSULE else (0,)
      planes += [(key.condim, geoms, end, contact) for end in ends]
    else:
      pairs.append((key.condim, geoms, 0, contact))
  for kind, parts in (('plane', planes), ('pair', pairs)):
    if not parts:
      continue
    geoms = np.concatenate([x[1] for x in parts])
    end = np.concatenate([np.full(len(x[1]), x[2]) for x in parts])
    if kind == 'plane':
      place = _on_planes(model, data, geoms, end)
    else:
      place = _between(model, data, geoms)
    condim = np.concatenate([np.full(len(x[1]), x[0]) for x in parts])
    parameters = jp.concatenate([_parameters(x[3]) for x in parts])
    _add(found, condim, _Found(place, parameters, jp.asarray(geoms)))
  if ellipsoids:
    sizes = [len(x[2]) for x in ellipsoids]
    condim = np.repeat([x[0] for x in ellipsoids], sizes)
    types = np.repeat([x[1] for x in ellipsoids], sizes, axis=0)
    geoms, parameters = (
      jp.concatenate([x[i] for x in ellipsoids]) for i in (2, 3)
    )
    place, undecided = _placed(
      colliders.with_ellipsoids(model, data, geoms, types),
      colliders.EXACT_PAIRS,
    )
    _add(found, condim, _Found(place, parameters, geoms))
    dropped += undecided

  kept = []
  for dim in sorted(found):
    part = _joined(found[dim])
    room = int((template.dim == dim).sum())
    if len(part.geoms) > room:
      distance, margin = part.place[:, 0], part.parameters[:, 0]
      touching = jp.sum(distance < margin, dtype=jp.int32)
      dropped += jp.maximum(touching - room, 0)
      _, deepest = jax.lax.top_k(-part.place[:, 0], room)
      part = part.take(deepest)
    elif len(part.geoms) < room:
      part = part.padded(room)
    kept.append(part)
  whole = _joined(kept)
  fields, start = {}, 0
  for name in _PARAMETERS:
    old = getattr(template, name)
    size = int(np.prod(old.shape[1:]))
    part = whole.parameters[:, start : start + size]
    fields[name] = part.reshape(old.shape)
    start += size
  contact = template.replace(
    dist=whole.place[:, 0],
    pos=whole.place[:, 1:4],
    frame=whole.place[:, 4:].reshape(-1, 3, 3),
    geom1=whole.geoms[:, 0],
    geom2=whole.geoms[:, 1],
    geom=whole.geoms,
    **fields,
  )
  data = data.tree_replace({'_impl.contact': contact})
  return shortfalls.with_dropped(data, dropped)
