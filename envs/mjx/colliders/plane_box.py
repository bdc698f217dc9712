"""Contacts of a plane and a box as C MuJoCo 3.17 has them.

Each corner of the box that is below its centre and below the plane has a
contact. Of two opposite corners one is below the centre, which makes four.
MJX looks at corners within a millimetre of the lowest only.

Source: `mjc_PlaneBox` in `engine_collision_primitive.c`.
"""

import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx._src import math
  from mujoco.mjx._src.collision_types import Collision, GeomInfo

CONTACTS = 4
_CORNERS = np.array([[-1, -1, -1], [1, -1, -1], [-1, 1, -1], [1, 1, -1]])
"""One of each two opposite corners."""


def plane_box(plane: GeomInfo, box: GeomInfo) -> Collision:
  """At most four contacts of a plane and a box."""
  normal = plane.mat[:, 2]
  corners = (_CORNERS * box.size) @ box.mat.T
  height = corners @ normal
  corners = jp.where(height > 0, -1, 1)[:, None] * corners
  dist = jp.dot(box.pos - plane.pos, normal) - jp.abs(height)
  pos = box.pos + corners - dist[:, None] / 2 * normal
  frame = jp.broadcast_to(math.make_frame(normal), (CONTACTS, 3, 3))
  return dist, pos, frame
