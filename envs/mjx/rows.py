"""Rows of the constraints: Jacobians, reference accelerations and stiffness.

The result is that of MJX's `make_constraint`, in a tenth of its operations: the
rows of all contacts of one kind are one elementwise function of their positions
and of the axes of motion, and what belongs to a contact is computed once, not
for each of its rows. This module has limits of hinges and slides, and contacts.
MJX's functions give the other rows: equalities, dry friction, limits of balls
and tendons.

Source: `engine_core_constraint.c` of MuJoCo 3.17.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import row_costs, topology, vectors

with runtime.quiet():
  from mujoco.mjx._src import constraint
  from mujoco.mjx._src.types import ConeType, DisableBit, JointType

_MINVAL = 1e-15
"""C's `mjMINVAL`."""


class _Rows(NamedTuple):
  """Rows of one kind.

  Attributes:
    jacobian: `(n, nv)`.
    terms: of each row, `(n, 3)`: damping, the part of the reference
      acceleration that follows from the position, and stiffness.
    placed: of each row, `(n, 3)`: distance to the bound, margin, dry friction.
  """

  jacobian: jax.Array
  terms: jax.Array
  placed: jax.Array


def _terms(
  model: Any,
  solref: jax.Array,
  solimp: jax.Array,
  distance: jax.Array,
  offset: jax.Array,
  invweight: jax.Array,
) -> jax.Array:
  """The `terms` of rows.

  Args:
    model: an MJX model.
    solref: `(n, 2)`.
    solimp: `(n, 5)`.
    distance: the impedance depends on it, `(n,)`.
    offset: the reference acceleration is to remove it, `(n,)`.
    invweight: inverse inertia at the constraint, `(n,)`.

  Returns:
    The terms, `(n, 3)`.
  """
  impedances = jax.vmap(constraint._kbi, in_axes=(None, 0, 0, 0))
  stiffness, damping, impedance = impedances(model, solref, solimp, distance)
  regular = jp.maximum(invweight * (1 - impedance) / impedance, _MINVAL)
  pull = stiffness * impedance * offset
  return jp.stack([damping, pull, 1 / regular], axis=-1)


def _upstream(model: Any, efc: Any) -> _Rows | None:
  """Rows that MJX computed."""
  if efc is None:
    return None
  terms = _terms(
    model, efc.solref, efc.solimp, efc.pos_imp, efc.pos_aref, efc.invweight
  )
  placed = (efc.pos_aref + efc.margin, efc.margin, efc.frictionloss)
  return _Rows(efc.J, terms, jp.stack(placed, axis=-1))


def _limits(model: Any, data: Any) -> _Rows | None:
  """Limits of hinges and slides."""
  scalar = np.isin(model.jnt_type, (JointType.SLIDE, JointType.HINGE))
  joints = np.flatnonzero(scalar & model.jnt_limited)
  if (model.opt.disableflags & DisableBit.LIMIT) or not len(joints):
    return None
  at, dof = model.jnt_qposadr[joints], model.jnt_dofadr[joints]
  low, high = model.jnt_range[joints].T
  above, below = data.qpos[at] - low, high - data.qpos[at]
  margin = model.jnt_margin[joints]
  distance = jp.minimum(above, below) - margin
  active = distance < 0
  side = jp.where(active, jp.where(above < below, 1.0, -1.0), 0)
  offset = jp.where(active, distance, 0)
  terms = _terms(
    model,
    model.jnt_solref[joints],
    model.jnt_solimp[joints],
    distance,
    offset,
    model.dof_invweight0[dof],
  )
  jacobian = jp.where(dof[:, None] == np.arange(model.nv), side[:, None], 0)
  placed = (offset + margin, margin, jp.zeros_like(offset))
  return _Rows(jacobian, terms, jp.stack(placed, axis=-1))


def _contacts(model: Any, data: Any, condim: int) -> _Rows | None:
  """Contacts with friction in `condim` - 1 directions."""
  which = np.flatnonzero(data._impl.contact.dim == condim)
  if not len(which):
    return None
  contact = jax.tree.map(lambda x: x[which], data._impl.contact)
  distance = contact.dist - contact.includemargin
  active = distance < 0
  offset = jp.where(active, distance, 0)
  bodies = jp.asarray(model.geom_bodyid)[contact.geom]

  # Velocities at the contact of the second body relative to the first, for each
  # degree of freedom, along the directions of the contact's frame.
  tables = topology.of(model)
  moves = jp.asarray(tables.moves, contact.pos.dtype)
  sign = jp.where(active[:, None], moves[bodies[:, 1]] - moves[bodies[:, 0]], 0)
  root = np.asarray(model.body_rootid)[np.asarray(model.dof_bodyid)]
  axes = vectors.split(data.cdof)
  centre = vectors.split(data.subtree_com[root])
  arm = tuple(
    x[:, None] - c
    for x, c in zip(vectors.split(contact.pos), centre, strict=True)
  )
  turn = axes[:3]
  slide = vectors.add(axes[3:], vectors.cross(turn, arm))
  frame = [
    tuple(x[:, None] for x in vectors.split(contact.frame[:, i]))
    for i in range(3)
  ]
  moved = [sign * vectors.dot(direction, slide) for direction in frame]
  moved += [sign * vectors.dot(direction, turn) for direction in frame]

  friction, ratio = contact.friction, model.opt.impratio
  weight = model.body_invweight0[:, 0]
  invweight = weight[bodies[:, 0]] + weight[bodies[:, 1]]
  reference, impedance = contact.solref, contact.solimp
  margin = contact.includemargin
  if condim > 1 and model.opt.cone == ConeType.ELLIPTIC:
    # A row for the normal and one for each direction of friction, which have a
    # reference of their own.
    directions = moved[:condim]
    square = jp.square(friction[:, :1] / friction[:, : condim - 1])
    tangent = (invweight / ratio)[:, None] * square
    own = jp.any(contact.solreffriction != 0, axis=1, keepdims=True)
    sliding = jp.where(own, contact.solreffriction, reference)
    reference = jp.stack([reference] + [sliding] * (condim - 1), axis=1)
    reference = reference.reshape(-1, 2)
    invweight = row_costs.normal_first(invweight, tangent).reshape(-1)
    offset = row_costs.normal_first(offset, jp.zeros_like(square)).reshape(-1)
    impedance, distance, margin = (
      jp.repeat(x, condim, axis=0) for x in (impedance, distance, margin)
    )
  elif condim > 1:
    # Opposed edges of the pyramid, one pair for each direction of friction.
    directions = []
    for i in range(condim - 1):
      lean = friction[:, i, None] * moved[1 + i]
      directions += [moved[0] + lean, moved[0] - lean]
    square = friction[:, 0] * friction[:, 0]
    invweight = (invweight + square * invweight) * 2 * square / ratio
  else:
    directions = moved[:1]
  jacobian = jp.stack(directions, axis=1).reshape(-1, model.nv)
  terms = _terms(model, reference, impedance, distance, offset, invweight)
  placed = (offset + margin, margin, jp.zeros_like(offset))
  count = len(jacobian) // len(offset)  # The edges of a pyramid are alike.
  return _Rows(
    jacobian,
    jp.repeat(terms, count, axis=0),
    jp.repeat(jp.stack(placed, axis=-1), count, axis=0),
  )


def make_constraint(model: Any, data: Any) -> Any:
  """Computes all rows of a state's constraints.

  Args:
    model: an MJX model.
    data: data with contacts, positions and axes of motion.

  Returns:
    Data with `efc_J`, `efc_aref`, `efc_D`, `efc_pos`, `efc_margin` and
    `efc_frictionloss`.
  """
  if model.opt.disableflags & DisableBit.CONSTRAINT:
    return constraint.make_constraint(model, data)
  parts = [
    _upstream(model, rows(model, data))
    for rows in (
      constraint._efc_equality_connect,
      constraint._efc_equality_weld,
      constraint._efc_equality_joint,
      constraint._efc_equality_tendon,
      constraint._efc_friction,
      constraint._efc_limit_ball,
    )
  ]
  parts.append(_limits(model, data))
  parts.append(_upstream(model, constraint._efc_limit_tendon(model, data)))
  parts += [_contacts(model, data, condim) for condim in (1, 3, 4, 6)]
  parts = [part for part in parts if part is not None]
  if not parts:
    return constraint.make_constraint(model, data)
  rows = jax.tree.map(lambda *x: jp.concatenate(x), *parts)
  damping, pull, stiffness = vectors.split(rows.terms)
  position, margin, dry = vectors.split(rows.placed)
  velocity = jp.sum(rows.jacobian * data.qvel, axis=1)
  return data.tree_replace(
    {
      '_impl.efc_J': rows.jacobian,
      '_impl.efc_D': stiffness,
      '_impl.efc_aref': -damping * velocity - pull,
      '_impl.efc_pos': position,
      '_impl.efc_margin': margin,
      '_impl.efc_frictionloss': dry,
    }
  )
