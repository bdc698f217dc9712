"""The noslip pass of C MuJoCo, which MJX lacks, for pyramidal cones.

The constraint solver regularises friction, so that contacts creep. After it,
this pass moves force between the two opposed edges of each friction direction
of the pyramids, one pair after the other, to where it is optimal without
regularisation: projected Gauss-Seidel, the sum of the two, and with it the
normal force, unchanged. A few sweeps do not converge, so the order of contacts
matters; it is C's, by bodies and geoms.

Source: `solNoSlip` in `engine_solver.c` of MuJoCo 3.17. It also handles
elliptic cones and dry joint friction; this pass does not.
"""

import dataclasses
import functools
import importlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import elimination
from mjx_crossq.envs.mjx.platforms import by_platform

with runtime.quiet():
  from mujoco.mjx._src import support
  from mujoco.mjx._src.types import ConeType, GeomType

_OBJECT: Any = importlib.import_module('mujoco').mjtObj

MAX_PAIRS = 160
"""Pairs of opposed edges for which there is room; at most 157 belonged to
active contacts in 60,000 states of dog under random and scripted actions."""
_MINVAL = 1e-15
"""C's `mjMINVAL`."""
_LEAST_INERTIA = 1e-10
"""Least inverse inertia of a constraint row without its regularisation."""
_WORSE = 1e-10
"""If the cost grows by more than this, the pair's forces are restored."""
BLOCK = 8
"""Pairs that are swept in one trip of the loop, but on CPUs, where one by one
is faster. What the forces of one change in the residuals of the next is known
from their inverse inertia."""

_FIELDS = ('noslip_iterations', 'noslip_tolerance')
"""Options of C that MJX drops; kept as numbers in the model's custom fields."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the pass.

  Attributes:
    iterations: largest number of sweeps.
    tolerance: sweeps end once `scale` times the cost's improvement is below it.
    scale: factor of the improvement; see `tolerance`.
    max_pairs: largest number of pairs of opposed edges of active contacts.
  """

  iterations: int
  tolerance: float
  scale: Any
  max_pairs: int = MAX_PAIRS

  @classmethod
  def of(cls, model: Any, max_pairs: int = MAX_PAIRS) -> 'Settings':
    """Reads a model's settings; zero iterations if `keep` stored none."""
    values = [support.name2id(model, _OBJECT.mjOBJ_NUMERIC, x) for x in _FIELDS]
    iterations, tolerance = (
      float(model.numeric_data[model.numeric_adr[i]]) if i >= 0 else 0.0
      for i in values
    )
    scale = 1 / (model.stat.meaninertia * max(1, model.nv))
    return cls(int(iterations), tolerance, scale, max_pairs)


def keep(spec: Any) -> None:
  """Writes what MJX drops from a model's options into its custom fields.

  Args:
    spec: an `MjSpec`, not compiled yet.

  Raises:
    NotImplementedError: elliptic cones or dry friction.
  """
  option = spec.option
  if not option.noslip_iterations:
    return
  dry = any(np.any(x.frictionloss) for x in (*spec.joints, *spec.tendons))
  if option.cone != ConeType.PYRAMIDAL or dry:
    raise NotImplementedError('The noslip pass: elliptic cones, dry friction.')
  for name in _FIELDS:
    spec.add_numeric(name=name, data=[getattr(option, name)], size=1)


class Pairs(NamedTuple):
  """Opposed edges of pyramids, in the order in which they are swept.

  Attributes:
    jacobian: `(n, 2, nv)`.
    response: accelerations by unit forces, `M^-1 J^T`, `(n, 2, nv)`.
    reference: wanted accelerations, `(n, 2)`.
    force: `(n, 2)`.
  """

  jacobian: jax.Array
  response: jax.Array
  reference: jax.Array
  force: jax.Array


def sweeps(
  pairs: Pairs,
  qacc: jax.Array,
  regularised: jax.Array,
  settings: Settings,
  size: int = BLOCK,
) -> tuple[jax.Array, jax.Array]:
  """Runs all sweeps of the pass.

  Args:
    pairs: the opposed edges.
    qacc: acceleration with the forces of all constraints, `(nv,)`.
    regularised: cost of the regularisation of all constraints, scalar, by which
      the first sweep's improvement is corrected.
    settings: of the pass.
    size: pairs that are swept at once.

  Returns:
    The pairs' forces and the acceleration after them.
  """
  count = len(pairs.force)
  # Pairs that are added have no inertia and keep their force, which is 0.
  filled = jax.tree.map(
    lambda x: jp.concatenate(
      [x, jp.zeros((-count % size, *x.shape[1:]), x.dtype)]
    ).reshape(-1, size, *x.shape[1:]),
    pairs,
  )
  # Residuals of a block's pairs by unit forces of each of them.
  coupling = jp.einsum('kiav,kjbv->kiajb', filled.jacobian, filled.response)

  def block(carry, x):
    qacc, improvement = carry
    (jacobian, response, reference, force), coupling = x
    residual = jacobian.reshape(-1, len(qacc)) @ qacc - reference.reshape(-1)
    forces, moved, improved = _swept(coupling, residual, force.reshape(-1))
    carry = qacc + moved @ response.reshape(-1, len(qacc)), improvement
    return (carry[0], improvement + improved), forces.reshape(force.shape)

  def sweep(i, carry):
    qacc, force, done = carry
    start = jp.where(i == 0, regularised, 0)
    (moved, improvement), swept = jax.lax.scan(
      block, (qacc, start), (filled._replace(force=force), coupling)
    )
    qacc = jp.where(done, qacc, moved)
    force = jp.where(done, force, swept)
    return (
      qacc,
      force,
      done | (improvement * settings.scale < settings.tolerance),
    )

  qacc, force, _ = jax.lax.fori_loop(
    0, settings.iterations, sweep, (qacc, filled.force, jp.array(False))
  )
  return force.reshape(-1, 2)[:count], qacc


def _swept(
  coupling: jax.Array, residual: jax.Array, force: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Sweeps the pairs of one block.

  Numbers one by one, so that XLA makes one operation of all of it, and not a
  few of each pair.

  Args:
    coupling: residuals `(n, 2)` by unit forces `(n, 2)`, `(n, 2, n, 2)`.
    residual: before, `(2 n,)`.
    force: before, `(2 n,)`.

  Returns:
    The forces, their changes, both `(2 n,)`, and by how much the cost fell.
  """
  count = len(residual) // 2
  left, start = list(residual), list(force)
  forces, moved, improvement = [], [], jp.zeros((), residual.dtype)
  for i in range(count):
    at = slice(2 * i, 2 * i + 2)
    new, change = _pair(coupling[i, :, i], left[at], start[at])
    deltas = [x - y for x, y in zip(new, start[at], strict=True)]
    for row in range(2 * i + 2, 2 * count):
      for side, delta in enumerate(deltas):
        left[row] += coupling[row // 2, row % 2, i, side] * delta
    forces += new
    moved += deltas
    improvement -= change
  return jp.stack(forces), jp.stack(moved), improvement


def _pair(
  inertia: jax.Array, residual: list[jax.Array], force: list[jax.Array]
) -> tuple[list[jax.Array], jax.Array]:
  """The best forces of equal sum, and the change of cost.

  Args:
    inertia: inverse inertia of the two rows, `(2, 2)`.
    residual: acceleration less reference, two scalars.
    force: two scalars.

  Returns:
    The two forces and the change, scalars.
  """
  first = jp.maximum(inertia[0, 0], _LEAST_INERTIA)
  second = jp.maximum(inertia[1, 1], _LEAST_INERTIA)
  cross, other = inertia[0, 1], inertia[1, 0]
  rest_0 = residual[0] - first * force[0] - cross * force[1]
  rest_1 = residual[1] - other * force[0] - second * force[1]
  middle = (force[0] + force[1]) / 2
  curvature = first + second - cross - other
  slope = middle * (first - second) + rest_0 - rest_1
  flat = curvature < _MINVAL
  half = -slope / jp.where(flat, 1, curvature)
  half = jp.where(flat, 0, jp.clip(half, -middle, middle))
  new = [middle + half, middle - half]
  d_0, d_1 = new[0] - force[0], new[1] - force[1]
  change = d_0 * residual[0] + d_1 * residual[1]
  change += (d_0 * d_0 * first + d_0 * d_1 * (cross + other)) / 2
  change += d_1 * d_1 * second / 2
  worse = change > _WORSE
  new = [jp.where(worse, f, x) for f, x in zip(force, new, strict=True)]
  return new, jp.where(worse, 0, change)


def _number_in_pair(model: Any, data: Any) -> jax.Array:
  """C's order of a pair's contacts, `(ncon,)`; MJX may have them by depth.

  A plane meets a capsule at the end of its axis first, and corners of a box in
  the order of z, y and x. Other pairs that rub have one contact in C, but for
  boxes with boxes, capsules and meshes, whose order is MJX's.
  """
  contact = data._impl.contact
  geom = contact.geom[:, 1]
  apart = contact.pos - data.geom_xpos[geom]
  above = jp.einsum('ni,nij->nj', apart, data.geom_xmat[geom]) > 0
  on_plane = jp.asarray(model.geom_type)[contact.geom[:, 0]] == GeomType.PLANE
  capsule = jp.asarray(model.geom_type)[geom] == GeomType.CAPSULE
  number = jp.where(capsule, ~above[:, 2], above @ np.array([1, 2, 4]))
  return jp.where(on_plane, number, 0)


def _order(model: Any, data: Any, settings: Settings) -> jax.Array:
  """First rows of the pairs, those of contacts that touch first, in C's order.

  A contact that MJX has in a slot for no touch has rows of zeros.
  """
  contact = data._impl.contact
  dims = np.asarray(contact.dim)
  slot = np.repeat(np.arange(len(dims)), dims - 1)
  number = np.concatenate([np.arange(d - 1) for d in dims]).astype(int)
  rows = np.asarray(contact.efc_address)[slot] + 2 * number
  geom = jp.sort(contact.geom, axis=1)
  body = jp.sort(jp.asarray(model.geom_bodyid)[contact.geom], axis=1)
  apart = contact.dist >= contact.includemargin
  within = _number_in_pair(model, data)
  keys = (within, geom[:, 1], geom[:, 0], body[:, 1], body[:, 0], apart)
  order = jp.lexsort((number, slot, *(x[slot] for x in keys)))
  return jp.asarray(rows)[order[: settings.max_pairs]]


def noslip(model: Any, data: Any, settings: Settings) -> Any:
  """Applies the pass to the constraint forces that MJX's solver found.

  Args:
    model: an MJX model.
    data: data with forces of constraints.
    settings: of the pass.

  Returns:
    Data with new forces and accelerations.
  """
  impl = data._impl
  if not settings.iterations or not (np.asarray(impl.contact.dim) > 1).any():
    return data
  first = _order(model, data, settings)
  rows = first[:, None] + jp.arange(2)
  jacobian = impl.efc_J[rows]
  inertia = support.full_m(model, data)
  flat = jacobian.reshape(-1, model.nv)
  response = elimination.solve(inertia, flat.T).T.reshape(jacobian.shape)
  force = impl.efc_force
  pairs = Pairs(jacobian, response, impl.efc_aref[rows], force[rows])
  regularised = (force * force / impl.efc_D).sum() / 2
  sweep = functools.partial(sweeps, settings=settings)
  swept, qacc = by_platform(
    pairs,
    data.qacc,
    regularised,
    cpu=functools.partial(sweep, size=1),
    default=sweep,
  )
  force = force.at[rows].set(swept)
  return data.tree_replace(
    {
      'qacc': qacc,
      'qfrc_constraint': force @ impl.efc_J,
      '_impl.efc_force': force,
    }
  )
