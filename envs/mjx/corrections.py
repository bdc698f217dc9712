"""Puts this package's corrections into MJX, for the whole process.

MJX has no interface for replacing a collider or a walk over the bodies, so the
corrections replace entries of its private modules. Each module that has one
says what it corrects; this is the only place that changes MJX.

Each replaces what MJX has and builds on none of it, so that nothing is
corrected twice when MJX is repaired. `tests/envs/test_upstream.py` fails then,
and names what to drop.
"""

import functools

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import colliders, collision, dynamics, tree

with runtime.quiet():
  from mujoco.mjx._src import collision_driver, scan, smooth, support


UPSTREAM = dict(collision_driver._COLLISION_FUNC)
"""MJX's own colliders, by types of geoms."""


@functools.cache
def install() -> None:
  """Installs all corrections; further calls do nothing.

  It must be called before MJX puts a model on a device: the table of colliders
  decides how much room a model's contacts need. `models.put_model` calls it.
  """
  table = collision_driver._COLLISION_FUNC
  table.update(collision.COLLIDERS)  # capsules
  table.update(colliders.COLLIDERS)  # ellipsoids and boxes
  scan.body_tree = tree.body_tree
  support.jac = dynamics.jac  # for the rows of constraints
  smooth.subtree_vel = dynamics.subtree_vel  # for sensors
