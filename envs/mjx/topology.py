"""Constant tables of a model's tree of bodies.

Sums over a body's ancestors or its subtree are products with matrices of zeros
and ones, which depend on the model only.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx.platforms import by_platform

with runtime.quiet():
  from mujoco.mjx._src.types import JointType


@dataclasses.dataclass(frozen=True)
class Topology:
  """Which bodies and degrees of freedom depend on which.

  Attributes:
    depth: bodies of the longest branch, without the world.
    subtree: whether body `j` is in the subtree of body `i`, `(nbody, nbody)`.
    moves: whether degree of freedom `j` moves body `i`, `(nbody, nv)`.
    before: whether the velocity of degree of freedom `j` moves the axis of `i`,
      `(nv, nv)`: that of ancestors and of the same body's earlier joints.
    steady: degrees of freedom whose axis never moves, `(nv,)`: the translations
      of a free joint.
    joints: the bodies' first, second, ... joints, `(most, nbody)`; -1 for none.
  """

  depth: int
  subtree: np.ndarray
  moves: np.ndarray
  before: np.ndarray
  steady: np.ndarray
  joints: np.ndarray


def of(model: Any) -> Topology:
  """The tables of a model.

  Args:
    model: a model of C or MJX.

  Returns:
    The tables.
  """
  subtree = np.eye(model.nbody, dtype=bool)
  for body in range(model.nbody - 1, 0, -1):  # Children before their parents.
    subtree[model.body_parentid[body]] |= subtree[body]
  bodies = np.asarray(model.dof_bodyid)
  moves = subtree[bodies].T
  dof_joint = np.asarray(model.dof_jntid)
  kind = np.asarray(model.jnt_type)[dof_joint]
  number = np.arange(model.nv)
  # Within a body, joints move the axes of later joints. A free joint counts as
  # two joints here: its translations come before its rotations.
  free = kind == JointType.FREE
  first = np.asarray(model.jnt_dofadr)[dof_joint]
  turns = free & (number - first >= 3)
  order = 2 * dof_joint + turns
  same = bodies[:, None] == bodies
  before = moves[bodies] & (~same | (order[:, None] > order))
  most = max(np.bincount(model.jnt_bodyid, minlength=1), default=0)
  joints = np.full((most, model.nbody), -1)
  for joint, body in enumerate(model.jnt_bodyid):
    joints[joint - model.body_jntadr[body], body] = joint
  return Topology(
    depth=int(subtree[1:].sum(axis=0).max(initial=0)),
    subtree=subtree,
    moves=moves,
    before=before,
    steady=free & ~turns,
    joints=joints,
  )


def total(which: np.ndarray, rows: jax.Array) -> jax.Array:
  """Sums of rows.

  On a CPU by a product of matrices, since XLA computes what another sum reads
  anew for each of its terms.

  Args:
    which: the rows of each sum, bool `(m, n)`.
    rows: `(n, k)`.

  Returns:
    The sums, `(m, k)`.
  """
  return by_platform(
    rows,
    cpu=functools.partial(by_product, which),
    default=functools.partial(by_choice, which),
  )


def by_product(which: np.ndarray, rows: jax.Array) -> jax.Array:
  """`total` on CPUs."""
  return jp.matmul(which.astype(rows.dtype), rows, precision='highest')


def by_choice(which: np.ndarray, rows: jax.Array) -> jax.Array:
  """`total` on accelerators, where it is one operation without a library."""
  return jp.sum(jp.where(which[:, :, None], rows, 0), axis=1)
