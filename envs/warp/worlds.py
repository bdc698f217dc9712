"""The part of the Warp backend that is written in Warp.

It is imported only when that backend is chosen.

MuJoCo Warp 3.17 shares a deviation of MJX (see `envs/mjx/collision.py`): near
the normal, friction directions of a capsule on a plane do not follow its axis.
Importing this module replaces the (private) function, for the whole process.
"""

# Warp compiles some functions below: Python's types do not apply.
# pyright: reportArgumentType=false, reportCallIssue=false
# pyright: reportOperatorIssue=false

from typing import Any

import numpy as np
import warp as wp

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx.third_party import mujoco_warp as mjw
  from mujoco.mjx.third_party.mujoco_warp._src import collision_primitive
  from mujoco.mjx.third_party.mujoco_warp._src.collision_primitive_core import (
    plane_sphere,
  )

__all__ = ['FLAGS', 'batched', 'count_contacts', 'mjw', 'step', 'worlds', 'wp']

_CONTACTS = 64
"""Contacts of an environment, on average, for which there is room."""
_Overflow = mjw.OverflowType
FLAGS = {
  'contacts_dropped': int(
    _Overflow.BROADPHASE
    | _Overflow.NARROWPHASE
    | _Overflow.CCD
    | _Overflow.EPA_HORIZON
    | _Overflow.HFIELD
    | _Overflow.NEFC
    | _Overflow.NJMAX_NNZ
  ),
  'solver_capped': int(_Overflow.ITERATIONS),
}
"""The flags of `data.overflow` that belong to each count of `shortfalls`."""


@wp.func
def plane_capsule(
  normal: wp.vec3,
  plane_pos: wp.vec3,
  capsule_pos: wp.vec3,
  axis: wp.vec3,
  radius: float,
  half_length: float,
):
  """Two contacts, one at each end of the capsule."""
  tangent = axis - normal * wp.dot(normal, axis)
  length = wp.length(tangent)
  # C's normalisation of a zero vector, which a vertical capsule gives.
  if length == 0.0:
    tangent, length = wp.vec3(1.0, 0.0, 0.0), 1.0
  tangent = tangent / length
  third = wp.cross(normal, tangent)
  frame = wp.matrix_from_rows(normal, tangent, third)
  end = axis * half_length
  dist1, pos1 = plane_sphere(normal, plane_pos, capsule_pos + end, radius)
  dist2, pos2 = plane_sphere(normal, plane_pos, capsule_pos - end, radius)
  return wp.vec2(dist1, dist2), wp.matrix_from_rows(pos1, pos2), frame


collision_primitive.plane_capsule = plane_capsule


@wp.kernel
def _count(
  total: wp.array[int],
  dist: wp.array[float],
  margin: wp.array[float],
  world: wp.array[int],
  counts: wp.array[int],
):
  i = wp.tid()
  if i < total[0] and dist[i] < margin[i]:
    wp.atomic_add(counts, world[i], 1)


def worlds(mj_model: Any, size: int, changed: tuple[str, ...]) -> Any:
  """A model and its data for a batch of environments, on the current device.

  Args:
    mj_model: the C model.
    size: environments.
    changed: arrays of the model that each environment has for itself.

  Returns:
    The model and the data.
  """
  m = mj_model
  own = dict.fromkeys(set(changed) - {'hfield_data'}, size)
  if 'hfield_data' in changed:
    own['geom_dataid'] = size
  model = mjw.put_model(m, batch_sizes=own)
  if 'hfield_data' in changed:
    _split_hfield(model, m, size)
  limits = m.jnt_limited.sum() + m.tendon_limited.sum()
  friction = (m.dof_frictionloss > 0).sum()
  # A pyramid has two edges for each direction of friction.
  rows_per_contact = max(2 * (m.geom_condim.max() - 1), 4)
  rows = int(limits + friction + 6 * m.neq + _CONTACTS * rows_per_contact)
  data = mjw.make_data(m, nworld=size, nconmax=_CONTACTS, njmax=rows)
  return model, data


def _split_hfield(model: Any, mj_model: Any, size: int) -> None:
  """Gives each environment a height field, of which MuJoCo Warp has one."""
  m = mj_model
  if m.nhfield != 1:
    raise NotImplementedError(f'{m.nhfield} height fields.')
  length = m.nhfielddata
  model.nhfield, model.nhfielddata = size, size * length
  model.hfield_size = wp.array(np.tile(m.hfield_size, (size, 1)), wp.vec4)
  for name in ('hfield_nrow', 'hfield_ncol'):
    setattr(model, name, wp.array(np.tile(getattr(m, name), size), int))
  model.hfield_adr = wp.array(length * np.arange(size), int)
  model.hfield_data = wp.zeros(size * length, float)
  ids = np.tile(m.geom_dataid, (size, 1))
  is_field = m.geom_type == mjw.GeomType.HFIELD
  ids[:, is_field] = np.arange(size)[:, None]
  model.geom_dataid.assign(ids)


def batched(model: Any, name: str, size: int) -> Any:
  """An array of the model with the environments as its first axis."""
  array = getattr(model, name)
  return array.reshape((size, -1)) if name == 'hfield_data' else array


def step(model: Any, data: Any, steps: int) -> None:
  """Physics steps, and what is observed of the state that they lead to.

  Args:
    model: of the batch.
    data: of the batch.
    steps: their number.
  """
  for _ in range(steps):
    mjw.step(model, data)
  # Contacts and inertia of the new state wait for the next step.
  mjw.fwd_kinematics(model, data)
  mjw.transmission(model, data)
  mjw.sensor_pos(model, data)
  mjw.fwd_velocity(model, data)
  mjw.sensor_vel(model, data)


def count_contacts(model: Any, data: Any, counts: Any) -> None:
  """Counts the contacts of each environment.

  Args:
    model: of the batch.
    data: of the batch, with the wanted positions.
    counts: where the numbers go.
  """
  mjw.fwd_kinematics(model, data)
  mjw.collision(model, data)
  counts.zero_()
  contact = data.contact
  wp.launch(
    _count,
    dim=data.naconmax,
    inputs=[data.nacon, contact.dist, contact.includemargin, contact.worldid],
    outputs=[counts],
  )
