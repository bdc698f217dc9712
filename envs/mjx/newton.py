"""Newton's method for the constraint forces, with the exact line search.

The iteration is that of MJX and C (`mj_solNewton`), for pyramidal cones without
dry friction. What differs from MJX:

* the line search is exact (`line_search`);
* whether a step improved the cost enough to go on follows from its line search
  and not from a difference of costs, which float32 rounds away;
* the Hessian is computed before a step and not after it, so that none is
  computed for a step that is not taken;
* with a warm start the iteration begins there, whether or not the cost is lower
  without constraint forces: the first step leads there if nothing touches.

Other models keep MJX's solver, with `update_gradient` in place of its own.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import elimination, line_search

with runtime.quiet():
  from mujoco.mjx._src import solver, support
  from mujoco.mjx._src.types import ConeType, DisableBit, SolverType


class _State(NamedTuple):
  """What changes from iteration to iteration.

  Attributes:
    qacc: accelerations, `(nv,)`.
    inertial: inertia times accelerations, `(nv,)`.
    residual: of the rows, `(rows,)`.
    force: of the rows, `(rows,)`.
    total: joint forces of the rows, `(nv,)`.
    gradient: of the cost, `(nv,)`.
    iteration: steps taken.
    done: whether no more are to be taken.
  """

  qacc: jax.Array
  inertial: jax.Array
  residual: jax.Array
  force: jax.Array
  total: jax.Array
  gradient: jax.Array
  iteration: jax.Array
  done: jax.Array


def solve(model: Any, data: Any) -> Any:
  """Finds accelerations and constraint forces.

  Args:
    model: an MJX model.
    data: data with inertia matrix, rows of constraints, `qfrc_smooth`, and
      `qacc_smooth`.

  Returns:
    Data with `qacc`, `qfrc_constraint` and `efc_force`.
  """
  newton = model.opt.solver == SolverType.NEWTON
  if not (newton and line_search.is_exact(model)):
    return solver.solve(model, data)
  impl = data._impl
  inertia, rows, stiffness = impl.M, impl.efc_J, impl.efc_D
  equal = np.arange(len(rows)) < impl.ne  # Equalities are the first rows.
  scale = 1 / jp.maximum(jp.trace(inertia), 1e-15)

  def evaluated(
    qacc: jax.Array,
    inertial: jax.Array,
    residual: jax.Array,
    iteration: jax.Array | int,
    done: jax.Array,
  ) -> _State:
    """The forces and the gradient at accelerations."""
    active = (residual < 0) | equal
    force = jp.where(active, -stiffness * residual, 0)
    total = force @ rows
    gradient = inertial - data.qfrc_smooth - total
    small = jp.sqrt(jp.sum(gradient * gradient)) * scale < model.opt.tolerance
    ended = iteration >= model.opt.iterations
    done = done | small | ended
    iteration = jp.asarray(iteration, jp.int32)
    return _State(
      qacc, inertial, residual, force, total, gradient, iteration, done
    )

  def step(state: _State) -> _State:
    active = (state.residual < 0) | equal
    weighted = jp.where(active, stiffness, 0)[:, None] * rows
    hessian = inertia + rows.T @ weighted
    search = -elimination.solve_vector(hessian, state.gradient)
    moved, rate = inertia @ search, rows @ search
    slope = jp.sum(search * state.gradient)
    always = jp.sum(jp.where(equal, stiffness * rate * rate, 0))
    length = line_search.minimiser(
      slope,
      jp.sum(search * moved) + always,
      state.residual,
      jp.where(equal, 0, rate),
      stiffness,
    )
    # Half of slope times length where the active rows stay the same.
    improvement = -slope * length / 2
    return evaluated(
      state.qacc + length * search,
      state.inertial + length * moved,
      state.residual + length * rate,
      state.iteration + 1,
      improvement * scale < model.opt.tolerance,
    )

  cold = model.opt.disableflags & DisableBit.WARMSTART
  qacc = data.qacc_smooth if cold else data.qacc_warmstart
  state = evaluated(
    qacc, inertia @ qacc, rows @ qacc - impl.efc_aref, 0, jp.array(False)
  )
  state = jax.lax.while_loop(lambda x: ~x.done, step, state)
  return data.tree_replace(
    {
      'qacc': state.qacc,
      'qfrc_constraint': state.total,
      '_impl.efc_force': state.force,
    }
  )


_update_gradient = solver._update_gradient


@functools.wraps(_update_gradient)
def update_gradient(model: Any, data: Any, context: Any) -> Any:
  """See `mujoco.mjx._src.solver._update_gradient`, which this replaces.

  It is what MJX's solver, with which models with elliptic cones stay, calls a
  LAPACK routine for.
  """
  if model.opt.solver != SolverType.NEWTON:
    return _update_gradient(model, data, context)
  impl = data._impl
  weighted = (impl.efc_D * context.active)[:, None] * impl.efc_J
  hessian = support.full_m(model, data) + impl.efc_J.T @ weighted
  if model.opt.cone == ConeType.ELLIPTIC:
    # Second derivatives of the cones; zero beyond a contact's own rows.
    contact = impl.contact
    first = np.asarray(contact.efc_address)[np.asarray(contact.dim) > 1]
    rows = np.minimum(first[:, None] + np.arange(6), len(impl.efc_J) - 1)
    cones = impl.efc_J[rows]
    hessian += jp.einsum('nai,nab,nbj->ij', cones, context.h, cones)
  gradient = context.Ma - data.qfrc_smooth - context.qfrc_constraint
  solution = elimination.solve_vector(hessian, gradient)
  return context.replace(grad=gradient, Mgrad=solution)
