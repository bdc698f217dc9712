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
a group, geoms of two types, that come nearest by this measure. That is exact
while no more are left unproven: at most 14 were in 100 of dog's states.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jp

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

EXACT_PAIRS = 32
"""Pairs of a group that are solved exactly."""
UNKNOWN = 1e3
"""The distance of pairs that are neither proven apart nor solved, metres."""


def _two_stages(
  problem: Callable[[GeomInfo, GeomInfo], smooth.Problem],
  collide: Callable[[GeomInfo, GeomInfo], Collision],
) -> Callable[..., Collision]:
  """A group's collider for MJX's table; see the module's docstring."""

  def solve(model: Any, data: Any, _: Any, geom: jax.Array) -> Collision:
    first, second = (
      GeomInfo(data.geom_xpos[g], data.geom_xmat[g], model.geom_size[g])
      for g in geom.T
    )
    if len(geom) <= EXACT_PAIRS:
      return jax.vmap(collide)(first, second)
    bound = jax.vmap(functools.partial(smooth.bound, problem))(first, second)
    _, nearest = jax.lax.top_k(-bound, EXACT_PAIRS)
    exact = jax.vmap(collide)(
      *jax.tree.map(lambda x: x[nearest], (first, second))
    )
    apart = (
      jp.where(bound > 0, bound, UNKNOWN),
      first.pos,
      jp.broadcast_to(jp.eye(3, dtype=bound.dtype), first.mat.shape),
    )
    dist, pos, frame = jax.tree.map(
      lambda x, y: x.at[nearest].set(y), apart, exact
    )
    return dist, pos, frame

  solve.ncon = 1  # pyright: ignore
  solve.exact_pairs = EXACT_PAIRS  # pyright: ignore
  return solve


COLLIDERS = {
  (GeomType.SPHERE, GeomType.ELLIPSOID): _two_stages(
    smooth.with_sphere, smooth.sphere_ellipsoid
  ),
  (GeomType.CAPSULE, GeomType.ELLIPSOID): _two_stages(
    smooth.with_capsule, smooth.capsule_ellipsoid
  ),
  (GeomType.ELLIPSOID, GeomType.ELLIPSOID): _two_stages(
    smooth.with_ellipsoid, smooth.ellipsoid_ellipsoid
  ),
  (GeomType.ELLIPSOID, GeomType.BOX): _two_stages(
    smooth.with_box, smooth.ellipsoid_box
  ),
  (GeomType.ELLIPSOID, GeomType.CYLINDER): _two_stages(
    cylinder.with_ellipsoid, cylinder.ellipsoid_cylinder
  ),
  (GeomType.CYLINDER, GeomType.BOX): _two_stages(
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
