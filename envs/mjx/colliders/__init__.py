"""Colliders of ellipsoids, boxes, cylinders and height fields, as in C MuJoCo.

`corrections.install` puts them into MJX's collision table. What differs from
MJX 3.17:

* sphere-, capsule- and ellipsoid-ellipsoid: MJX descends signed distance fields
  and finds false contacts (121 of 133 of two ellipsoids in dog, and all 86 of
  spheres); here is the separation along the best direction (`separation`).
* ellipsoid-box: MJX has none.
* capsule-box: MJX's generic convex collider agrees with C in part; this is C's
  closed form.
* box-box: MJX has at most four contacts, C and this eight.
* capsule- and ellipsoid-cylinder: MJX descends signed distance fields;
  cylinder-box: MJX has none (`cylinder`).
* height fields: MJX has at most four contacts of a pair, and none of ellipsoids
  and cylinders (`hfield`).
* plane-box: MJX looks at corners within a millimetre of the lowest, C and this
  at all that are below the plane.

The colliders are functions of one pair of geoms, without Python branches on
values, for `vmap` and float32: distance, position, frame as in
`mujoco.mjx._src.collision_types`.

A pair whose separation is sought is solved in two stages. A few directions
prove most pairs apart; the exact solution is computed for the `EXACT_PAIRS` of
a group that come nearest by this measure. That is exact while no more are left
unproven: of dog's 2,932 pairs with an ellipsoid, which are one group whatever
they meet, at most 18 were in 300 states under random actions.
"""

import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx.colliders import (
  box_box,
  capsule_box,
  cylinder,
  hfield,
  plane_box,
  smooth,
)

with runtime.quiet():
  from mujoco.mjx._src.collision_primitive import collider
  from mujoco.mjx._src.collision_types import Collision, GeomInfo
  from mujoco.mjx._src.types import GeomType

EXACT_PAIRS = 64
"""Pairs of a group that are solved exactly."""
UNKNOWN = 1e3
"""The distance of pairs that are neither proven apart nor solved, metres."""
WITH_ELLIPSOID = (
  (GeomType.SPHERE, GeomType.ELLIPSOID),
  (GeomType.CAPSULE, GeomType.ELLIPSOID),
  (GeomType.ELLIPSOID, GeomType.ELLIPSOID),
  (GeomType.ELLIPSOID, GeomType.BOX),
)
"""Types of pairs that are one group: see `with_ellipsoids`."""


def with_ellipsoids(
  model: Any, data: Any, geoms: Any, types: np.ndarray
) -> Collision:
  """Contacts of ellipsoids with spheres, capsules, boxes and each other.

  Args:
    model: an MJX model.
    data: data with the geoms' poses.
    geoms: the pairs, `(n, 2)`.
    types: of their geoms, each row of `WITH_ELLIPSOID`, `(n, 2)`.
  """
  swapped = types[:, 1] == GeomType.BOX
  kinds = np.where(swapped, GeomType.BOX, types[:, 0])
  pairs = (
    _geoms(model, data, jp.where(swapped, geoms[:, 1], geoms[:, 0])),
    _geoms(model, data, jp.where(swapped, geoms[:, 0], geoms[:, 1])),
    jp.asarray(kinds),
  )

  def bounds() -> jax.Array:
    # The second ellipsoid of a problem is a point, save of two ellipsoids.
    problems = jax.vmap(smooth.problem)(*pairs)
    two = kinds == GeomType.ELLIPSOID
    parts = [np.flatnonzero(~two), np.flatnonzero(two)]
    found = []
    for count, part in enumerate(parts, 1):
      problem = jax.tree.map(operator.itemgetter(part), problems)
      factors = problem.shapes.factors[:count]
      shapes = problem.shapes._replace(factors=factors)
      found.append(jax.vmap(smooth.bound)(problem._replace(shapes=shapes)))
    return jp.concatenate(found)[np.argsort(np.concatenate(parts))]

  return _in_two_stages(smooth.collide, pairs, bounds)


def _geoms(model: Any, data: Any, index: jax.Array) -> GeomInfo:
  return GeomInfo(
    data.geom_xpos[index], data.geom_xmat[index], model.geom_size[index]
  )


def _in_two_stages(
  collide: Callable[..., Collision],
  pairs: tuple[Any, ...],
  bounds: Callable[[], jax.Array],
) -> Collision:
  """Solves the pairs that come nearest; see the module's docstring.

  Args:
    collide: the solution of one pair.
    pairs: its operands, of which the first is a geom, with an axis for pairs.
    bounds: computes lower bounds of the distances, `(n,)`.
  """
  first = pairs[0]
  if len(first.pos) <= EXACT_PAIRS:
    return jax.vmap(collide)(*pairs)
  bound = bounds()
  _, nearest = jax.lax.top_k(-bound, EXACT_PAIRS)
  exact = jax.vmap(collide)(*jax.tree.map(lambda x: x[nearest], pairs))
  apart = (
    jp.where(bound > 0, bound, UNKNOWN),
    first.pos,
    jp.broadcast_to(jp.eye(3, dtype=bound.dtype), first.mat.shape),
  )
  dist, pos, frame = jax.tree.map(
    lambda x, y: x.at[nearest].set(y), apart, exact
  )
  return dist, pos, frame


def _of_types(types: tuple[int, int]) -> Callable[..., Collision]:
  """`with_ellipsoids` for MJX's table."""

  def solve(model: Any, data: Any, _: Any, geom: jax.Array) -> Collision:
    return with_ellipsoids(model, data, geom, np.tile(types, (len(geom), 1)))

  return _entry(solve)


def _of_cylinders(
  problem: Callable[[GeomInfo, GeomInfo], smooth.Problem],
  collide: Callable[[GeomInfo, GeomInfo], Collision],
) -> Callable[..., Collision]:
  """The collider of one pair in two stages, for MJX's table."""

  def solve(model: Any, data: Any, _: Any, geom: jax.Array) -> Collision:
    pairs = tuple(_geoms(model, data, x) for x in geom.T)

    def bounds() -> jax.Array:
      return jax.vmap(smooth.bound)(jax.vmap(problem)(*pairs))

    return _in_two_stages(collide, pairs, bounds)

  return _entry(solve)


def _entry(solve: Callable[..., Collision]) -> Callable[..., Collision]:
  solve.ncon = 1  # pyright: ignore
  solve.exact_pairs = EXACT_PAIRS  # pyright: ignore
  return solve


COLLIDERS = {
  **{types: _of_types(types) for types in WITH_ELLIPSOID},
  (GeomType.ELLIPSOID, GeomType.CYLINDER): _of_cylinders(
    cylinder.with_ellipsoid, cylinder.ellipsoid_cylinder
  ),
  (GeomType.CYLINDER, GeomType.BOX): _of_cylinders(
    cylinder.with_box, cylinder.cylinder_box
  ),
  (GeomType.CAPSULE, GeomType.CYLINDER): collider(ncon=2)(
    cylinder.capsule_cylinder
  ),
  **{(GeomType.HFIELD, kind): hfield.slots for kind in hfield.KINDS},
  (GeomType.PLANE, GeomType.BOX): collider(ncon=plane_box.CONTACTS)(
    plane_box.plane_box
  ),
  (GeomType.CAPSULE, GeomType.BOX): collider(ncon=2)(capsule_box.capsule_box),
  (GeomType.BOX, GeomType.BOX): collider(ncon=box_box.CONTACTS)(
    box_box.box_box
  ),
}
"""By types of geoms, each with its number of contacts, `ncon`."""
