"""Newton's method for the constraint forces.

The iteration is that of MJX and C (`mj_solNewton`). What differs from MJX:

* the line search is exact; for elliptic cones and dry friction it brackets the
  minimum, with many points at once or on a CPU one by one (`line_search`);
* whether a step improved the cost enough to go on follows from its line search
  and not from a difference of costs, which float32 rounds away;
* the Hessian is computed before a step and not after it, so that none is
  computed for a step that is not taken;
* with a warm start the iteration begins there, whether or not the cost is lower
  without constraint forces: the first step leads there if nothing touches.

Models that ask for another method than Newton's keep MJX's solver.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jp

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import elimination, line_search, row_costs, shortfalls

with runtime.quiet():
  from mujoco.mjx._src import solver
  from mujoco.mjx._src.types import DisableBit, SolverType


_CONVERGED, _CAPPED = 1, 2


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
    end: why no more are to be taken: `_CONVERGED`, `_CAPPED`, or 0.
  """

  qacc: jax.Array
  inertial: jax.Array
  residual: jax.Array
  force: jax.Array
  total: jax.Array
  gradient: jax.Array
  iteration: jax.Array
  end: jax.Array


def begins_at_smooth(model: Any) -> bool:
  """Whether `solve` reads `qacc_smooth`, which takes a linear system."""
  cold = model.opt.disableflags & DisableBit.WARMSTART
  return bool(cold) or model.opt.solver != SolverType.NEWTON


def solve(model: Any, data: Any) -> Any:
  """Finds accelerations and constraint forces.

  Args:
    model: an MJX model.
    data: data with inertia matrix, rows of constraints, `qfrc_smooth`, and,
      where it `begins_at_smooth`, `qacc_smooth`.

  Returns:
    Data with `qacc`, `qfrc_constraint` and `efc_force`, and with a count of the
    solves that ended at the largest number of iterations (`shortfalls`).
  """
  if model.opt.solver != SolverType.NEWTON:
    return solver.solve(model, data)
  impl = data._impl
  inertia, rows = impl.M, impl.efc_J
  costs = row_costs.of(model, data)
  scale = 1 / jp.maximum(jp.trace(inertia), 1e-15)

  def evaluated(
    qacc: jax.Array,
    inertial: jax.Array,
    residual: jax.Array,
    iteration: jax.Array | int,
    converged: jax.Array,
  ) -> _State:
    """The forces and the gradient at accelerations."""
    force = costs.force(residual)
    total = force @ rows
    gradient = inertial - data.qfrc_smooth - total
    small = jp.sqrt(jp.sum(gradient * gradient)) * scale < model.opt.tolerance
    converged = converged | small
    ended = jp.where(iteration >= model.opt.iterations, _CAPPED, 0)
    end = jp.where(converged, _CONVERGED, ended)
    iteration = jp.asarray(iteration, jp.int32)
    return _State(
      qacc, inertial, residual, force, total, gradient, iteration, end
    )

  def step(state: _State) -> _State:
    hessian = inertia + costs.hessian(state.residual, rows)
    search = -elimination.solve_vector(hessian, state.gradient)
    moved, rate = inertia @ search, rows @ search
    slope = jp.sum(search * state.gradient)
    length = line_search.step(
      slope, jp.sum(search * moved), state.residual, rate, costs
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

  smooth = begins_at_smooth(model)
  qacc = data.qacc_smooth if smooth else data.qacc_warmstart
  state = evaluated(
    qacc, inertia @ qacc, rows @ qacc - impl.efc_aref, 0, jp.array(False)
  )
  state = jax.lax.while_loop(lambda x: x.end == 0, step, state)
  data = shortfalls.with_capped(data, state.end == _CAPPED)
  return data.tree_replace(
    {
      'qacc': state.qacc,
      'qfrc_constraint': state.total,
      '_impl.efc_force': state.force,
    }
  )
