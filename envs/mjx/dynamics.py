"""Inertia, velocities and forces of all bodies, without walks over their tree.

Spatial vectors of a tree are all given at its centre of mass, so that sums over
a body's ancestors or its subtree need no transformation: they are products with
the constant matrices of `topology`. MJX adds level by level, in some twenty
operations a level. Names and formulas are those of `engine_core_smooth.c` of
MuJoCo 3.17. `corrections.install` puts `jac` in place of MJX's, with which the
rows of constraints are computed, and `subtree_vel`, which sensors read.

Spatial vectors are `(..., 6)`, angular before linear. An inertia is
`(..., 10)`: its moments xx, yy, zz, xy, xz, yz, mass times centre, and mass.

The functions take an MJX model and data of which what they need is up to date,
and return data with their results.
"""

import functools
from typing import Any

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import topology, tree, vectors

with runtime.quiet():
  from mujoco.mjx._src import smooth, support
  from mujoco.mjx._src.types import (
    DisableBit,
    JointType,
    SensorType,
    TrnType,
  )

_MINVAL = 1e-15
"""C's `mjMINVAL`."""
_JOINTS = (TrnType.JOINT, TrnType.JOINTINPARENT)


def _roots(model: Any) -> np.ndarray:
  """The root of each body's tree."""
  return np.asarray(model.body_rootid)


def com_pos(model: Any, data: Any) -> Any:
  """Centres of mass, inertias, and the axes of motion: `mj_comPos`."""
  tables = topology.of(model)
  mass = model.body_mass
  moment = jp.concatenate([data.xipos * mass[:, None], mass[:, None]], axis=1)
  moment = topology.total(tables.subtree, moment)
  below = moment[:, 3:]
  centre = moment[:, :3] / jp.maximum(below, _MINVAL)
  centre = jp.where(below < _MINVAL, data.xipos, centre)
  data = data.replace(subtree_com=centre)

  root = vectors.split(centre[_roots(model)])
  rows = [vectors.split(data.ximat[:, i]) for i in range(3)]
  offset = vectors.subtract(vectors.split(data.xipos), root)
  principal = vectors.split(model.body_inertia)
  square = vectors.dot(offset, offset)
  moments = [
    vectors.dot(
      tuple(x * p for x, p in zip(rows[i], principal, strict=True)),
      rows[j],
    )
    + mass * ((square if i == j else 0) - offset[i] * offset[j])
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
  ]
  inertia = vectors.join(*moments, *vectors.scale(offset, mass), mass)

  joint = np.asarray(model.dof_jntid)
  body = np.asarray(model.dof_bodyid)
  kind = np.asarray(model.jnt_type)[joint]
  number = np.arange(model.nv) - np.asarray(model.jnt_dofadr)[joint]
  # Balls, and free joints after their translations, turn about the body's axes.
  shifts = (kind == JointType.SLIDE) | ((kind == JointType.FREE) & (number < 3))
  own = np.isin(kind, (JointType.BALL, JointType.FREE))
  axis = vectors.split(data.xaxis[joint])
  if own.any():
    frame = data.xmat[body, :, number % 3]
    world = np.eye(3)[number % 3]
    given = jp.where(shifts[:, None], world, frame)
    axis = tuple(
      jp.where(own, a, b)
      for a, b in zip(vectors.split(given), axis, strict=True)
    )
  arm = vectors.subtract(
    vectors.split(centre[_roots(model)[body]]),
    vectors.split(data.xanchor[joint]),
  )
  lever = vectors.cross(axis, arm)
  angular = [jp.where(shifts, 0, x) for x in axis]
  linear = [jp.where(shifts, x, y) for x, y in zip(axis, lever, strict=True)]
  return data.tree_replace(
    {'_impl.cinert': inertia, 'cdof': vectors.join(*angular, *linear)}
  )


def _times(inertia: jax.Array, motion: jax.Array) -> jax.Array:
  """Inertias by motions: momenta or forces."""
  xx, yy, zz, xy, xz, yz, x, y, z, mass = vectors.split(inertia)
  centre = (x, y, z)
  parts = vectors.split(motion)
  angular, linear = parts[:3], parts[3:]
  turn = (
    vectors.dot((xx, xy, xz), angular),
    vectors.dot((xy, yy, yz), angular),
    vectors.dot((xz, yz, zz), angular),
  )
  turn = vectors.add(turn, vectors.cross(centre, linear))
  push = vectors.subtract(
    vectors.scale(linear, mass),
    vectors.cross(centre, angular),
  )
  return vectors.join(*turn, *push)


def _cross_motion(velocity: jax.Array, motion: jax.Array) -> jax.Array:
  """Change of motions that are carried along with a velocity."""
  u, v = vectors.split(velocity), vectors.split(motion)
  angular = vectors.cross(u[:3], v[:3])
  linear = vectors.add(vectors.cross(u[3:], v[:3]), vectors.cross(u[:3], v[3:]))
  return vectors.join(*angular, *linear)


def _cross_force(velocity: jax.Array, force: jax.Array) -> jax.Array:
  """Change of forces, or momenta, that are carried along with a velocity."""
  u, f = vectors.split(velocity), vectors.split(force)
  angular = vectors.add(
    vectors.cross(u[:3], f[:3]), vectors.cross(u[3:], f[3:])
  )
  return vectors.join(*angular, *vectors.cross(u[:3], f[3:]))


def crb(model: Any, data: Any) -> Any:
  """The inertia matrix: `mj_crb`."""
  tables = topology.of(model)
  below = tables.subtree.copy()
  below[0] = False  # The world has none, as in C.
  composite = topology.total(below, data._impl.cinert)
  force = _times(composite[np.asarray(model.dof_bodyid)], data.cdof)
  force = tree.apart(force)
  # An entry's composite body is that of the degree of freedom that is lower in
  # the tree, whose number is the larger one.
  bodies, number = np.asarray(model.dof_bodyid), np.arange(model.nv)
  lower = tables.moves[bodies] & (number <= number[:, None])
  axes = data.cdof
  entries = jp.where(
    lower[:, :, None],
    force[:, None] * axes,
    jp.where(lower.T[:, :, None], axes[:, None] * force, 0),
  )
  inertia = jp.sum(entries, axis=2) + jp.diag(model.dof_armature)
  return data.tree_replace({'_impl.crb': composite, '_impl.M': inertia})


def com_vel(model: Any, data: Any) -> Any:
  """Velocities of the bodies, and of the axes of motion: `mj_comVel`."""
  tables = topology.of(model)
  parts = data.cdof * data.qvel[:, None]
  both = np.concatenate([tables.moves, tables.before])
  velocity = topology.total(both, parts)
  own, carried = velocity[: model.nbody], velocity[model.nbody :]
  change = _cross_motion(carried, data.cdof)
  change = jp.where(tables.steady[:, None], 0, change)
  return data.tree_replace({'cvel': own, 'cdof_dot': change})


def rne(model: Any, data: Any) -> Any:
  """Forces of gravity and of rotation, on joints: `mj_rne`."""
  tables = topology.of(model)
  parts = data.cdof_dot * data.qvel[:, None]
  acceleration = topology.total(tables.moves, parts)
  if not model.opt.disableflags & DisableBit.GRAVITY:
    rest = jp.concatenate([jp.zeros(3), -model.opt.gravity])
    acceleration += rest
  inertia = data._impl.cinert
  force = _times(inertia, acceleration)
  force += _cross_force(data.cvel, _times(inertia, data.cvel))
  return data.replace(qfrc_bias=_by_joint(tables, data, force))


def _by_joint(
  tables: topology.Topology, data: Any, force: jax.Array
) -> jax.Array:
  """Joint forces that do the work of forces on bodies, `(nbody, 6)`."""
  return jp.sum(data.cdof * topology.total(tables.moves.T, force), axis=1)


@functools.wraps(support.jac)
def jac(
  model: Any, data: Any, point: jax.Array, body_id: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """See `mujoco.mjx._src.support.jac`, which this replaces."""
  tables = topology.of(model)
  moves = jp.asarray(tables.moves)[body_id]
  root = data.subtree_com[jp.asarray(_roots(model))[body_id]]
  parts = vectors.split(data.cdof)
  offset = vectors.split(point - root)
  linear = vectors.add(parts[3:], vectors.cross(parts[:3], offset))
  linear = vectors.join(*(jp.where(moves, x, 0) for x in linear))
  angular = jp.where(moves[:, None], data.cdof[:, :3], 0)
  return linear, angular


def transmission(model: Any, data: Any) -> Any:
  """Lengths of actuators, and their moments on joints: `mj_transmission`."""
  kind, target = np.asarray(model.actuator_trntype), model.actuator_trnid[:, 0]
  tendon = kind == TrnType.TENDON
  joint = np.where(np.isin(kind, _JOINTS), target, -1)
  scalar = np.isin(model.jnt_type[joint], (JointType.HINGE, JointType.SLIDE))
  if not (tendon | ((joint >= 0) & scalar)).all():
    return smooth.transmission(model, data)
  gear = model.actuator_gear[:, 0]
  dof = np.where(joint >= 0, model.jnt_dofadr[joint], -1)
  length = data.qpos[model.jnt_qposadr[joint]]
  moment = jp.asarray(dof[:, None] == np.arange(model.nv), gear.dtype)
  if tendon.any():
    which = np.where(tendon, target, 0)
    length = jp.where(tendon, data.ten_length[which], length)
    moment = jp.where(tendon[:, None], data._impl.ten_J[which], moment)
  return data.tree_replace(
    {
      'actuator_length': length * gear,
      '_impl.actuator_moment': moment * gear[:, None],
    }
  )


_subtree_vel = smooth.subtree_vel


@functools.wraps(_subtree_vel)
def subtree_vel(model: Any, data: Any) -> Any:
  """See `mujoco.mjx._src.smooth.subtree_vel`, which this replaces.

  Angular momenta are left as they are unless a sensor reads them.
  """
  if (model.sensor_type == SensorType.SUBTREEANGMOM).any():
    return _subtree_vel(model, data)
  turn, push = data.cvel[:, :3], data.cvel[:, 3:]
  arm = vectors.split(data.xipos - data.subtree_com[_roots(model)])
  linear = vectors.subtract(
    vectors.split(push), vectors.cross(arm, vectors.split(turn))
  )
  momentum = vectors.join(*vectors.scale(linear, model.body_mass))
  subtree = topology.of(model).subtree
  mass = jp.maximum(model.body_subtreemass, _MINVAL)[:, None]
  return data.tree_replace(
    {'_impl.subtree_linvel': topology.total(subtree, momentum) / mass}
  )


def xfrc_accumulate(model: Any, data: Any) -> jax.Array:
  """Joint forces of `xfrc_applied`, `(nv,)`: `mj_xfrcAccumulate`."""
  push = vectors.split(data.xfrc_applied[:, :3])
  turn = vectors.split(data.xfrc_applied[:, 3:])
  root = data.subtree_com[_roots(model)]
  arm = vectors.split(data.xipos - root)
  turn = vectors.add(turn, vectors.cross(arm, push))
  tables = topology.of(model)
  return _by_joint(tables, data, vectors.join(*turn, *push))
