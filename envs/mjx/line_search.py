"""Line searches for the constraint solver.

The solver minimises, along a direction, the cost of the smooth dynamics, which
is quadratic, plus that of the constraint rows. Where cones are pyramidal and
nothing has dry friction, a row costs `stiffness / 2 * min(residual, 0)^2`, or
the same without `min` for an equality. The residual is linear in the step. So
the cost's derivative is piecewise linear, increasing, and bends where a row
becomes active or inactive. It is evaluated at these breakpoints at once. The
minimum of the segment in which it changes sign is a quotient.

MJX's own line search takes up to `ls_iterations` steps, one after the other,
and accepts a step only if the cost falls by more than its rounding error. The
exact one is nearer to C (99 % of v1 in humanoid: 2e-4 -> 7e-5) and takes a
tenth of the operations. A CPU, on which all breakpoints at once are most of the
solver's time, follows the derivative's zero from segment to segment.

With elliptic cones and dry friction the derivative increases too, but is not
linear between breakpoints. Its zero is found in three steps, each of which
evaluates it at many points at once, or on a CPU one point after the other.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs.mjx import row_costs
from mjx_crossq.envs.mjx.platforms import by_platform

NEAREST = 128
"""Breakpoints at which the derivative is evaluated, the nearest ones. If the
minimum is beyond them all, the step ends at the next one: it is then shorter
than the best, and the solver takes another."""

_TRIPS = 60
"""Most trips of `followed` and `bracketed`."""

POINTS = 32
"""Points at which `zero` evaluates a derivative at once, three times."""

_WIDTH, _NEAR = 2.0**-12, 1 / 256
"""Relative distance of points between which `bracketed` takes a function as
linear. Below the second number it is relative to that."""


def step(
  slope: jax.Array,
  curvature: jax.Array,
  residual: jax.Array,
  rate: jax.Array,
  costs: row_costs.RowCosts,
) -> jax.Array:
  """The step along a direction at which the solver's cost is least.

  Args:
    slope: the derivative of the whole cost at step 0, scalar.
    curvature: second derivative of the cost without rows, scalar, positive.
    residual: of the rows at step 0, `(n,)`.
    rate: the residuals' derivatives by the step, `(n,)`.
    costs: of the rows.

  Returns:
    The step, scalar; 0 where the slope is not negative.
  """
  if costs.piecewise_quadratic:
    stiffness, equal = costs.stiffness, costs.equal
    always = jp.sum(jp.where(equal, stiffness * rate * rate, 0))
    rate = jp.where(equal, 0, rate)
    return by_platform(
      *(slope, curvature + always, residual, rate, stiffness),
      cpu=followed,
      default=minimiser,
    )
  # Rows only make the derivative grow faster. Large forces that hold each other
  # cancel row by row here, and not after they were summed and rounded.
  start = costs.force(residual)

  def derivative(point: jax.Array) -> jax.Array:
    lost = start - costs.force(residual + point * rate)
    return slope + curvature * point + jp.sum(rate * lost)

  return by_platform(
    *(slope, -slope / curvature),
    cpu=functools.partial(bracketed, derivative),
    default=functools.partial(zero, derivative),
  )


def zero(
  derivative: Callable[[jax.Array], jax.Array],
  slope: jax.Array,
  bound: jax.Array,
) -> jax.Array:
  """The argument at which an increasing function is zero.

  Args:
    derivative: the function, scalar to scalar.
    slope: its value at 0.
    bound: an argument at which it is not negative, scalar. If the function is
      the derivative along a step of Newton's method, it is at least 1.

  Returns:
    The argument, scalar; 0 where the slope is not negative. It is exact where
    the function is linear between the last points evaluated, which are about a
    thousandth of the argument apart unless it is below 1/256.
  """
  halves = jp.asarray(0.5 ** np.arange(8, 0, -1), bound.dtype)
  powers = jp.asarray(np.arange(POINTS - 8) / (POINTS - 8), bound.dtype)
  even = jp.asarray(np.arange(1, POINTS + 1) / (POINTS + 1), bound.dtype)

  def narrowed(bracket: tuple, points: jax.Array) -> tuple:
    """The nearest points around the zero, and the values there."""
    low, high, below, above = bracket
    value = jax.vmap(derivative)(points)
    negative = value < 0
    return (
      jp.maximum(low, jp.max(jp.where(negative, points, 0))),
      jp.minimum(high, jp.min(jp.where(negative, jp.inf, points))),
      jp.maximum(below, jp.max(jp.where(negative, value, -jp.inf))),
      jp.minimum(above, jp.min(jp.where(negative, jp.inf, value))),
    )

  bracket = jp.zeros_like(bound), bound, slope, derivative(bound)
  spread = jp.concatenate([halves, jp.maximum(bound, 1) ** powers])
  bracket = narrowed(bracket, spread)
  for _ in range(2):
    low, high, *_ = bracket
    bracket = narrowed(bracket, low + (high - low) * even)
  return jp.where(slope < 0, _between(*bracket), 0)


def _between(
  low: jax.Array, high: jax.Array, below: jax.Array, above: jax.Array
) -> jax.Array:
  """Where the line through `(low, below)` and `(high, above)` is zero."""
  share = below / jp.where(below < above, below - above, -1)
  return low + (high - low) * jp.clip(share, 0, 1)


def bracketed(
  derivative: Callable[[jax.Array], jax.Array],
  slope: jax.Array,
  bound: jax.Array,
) -> jax.Array:
  """`zero` by the ITP method, in some trips of a loop.

  A trip evaluates the function once, where the secant of the bracket is zero,
  or nearer to the bracket's middle if the bracket has shrunk little so far. So
  it takes at most one trip more than bisection. The brackets are of a logarithm
  of the argument that is linear near 0.

  Source: Oliveira and Takahashi, "An Enhancement of the Bisection Method
  Average Performance Preserving Minmax Optimality", ACM TOMS 47 (2020).
  """

  def at(point: jax.Array) -> jax.Array:
    return _NEAR * jp.expm1(point)

  whole = jp.log1p(bound / _NEAR)
  halvings = jp.ceil(jp.log2(jp.maximum(whole / _WIDTH, 1)))

  def narrowed(bracket: tuple, point: jax.Array) -> tuple:
    low, high, below, above = bracket
    value = derivative(at(point))
    negative = value < 0
    return (
      jp.where(negative, point, low),
      jp.where(negative, high, point),
      jp.where(negative, value, below),
      jp.where(negative, above, value),
    )

  def trip(carry: tuple) -> tuple:
    bracket, trips = carry
    low, high, *_ = bracket
    width, middle = high - low, (low + high) / 2
    offset = _between(*bracket) - middle
    nearer = jp.abs(offset) - 0.2 * width * width / whole
    reach = (_WIDTH * 2.0 ** (halvings + 1 - trips) - width) / 2
    point = middle + jp.sign(offset) * jp.clip(nearer, 0, jp.maximum(reach, 0))
    return narrowed(bracket, point), trips + 1

  def wide(carry: tuple) -> jax.Array:
    (low, high, *_), trips = carry
    return (slope < 0) & (high - low > _WIDTH) & (trips < _TRIPS)

  bracket = jp.zeros_like(whole), whole, slope, derivative(bound)
  # Newton's method takes steps of about 1.
  bracket = narrowed(bracket, jp.minimum(whole, np.log1p(1 / _NEAR)))
  bracket, _ = jax.lax.while_loop(wide, trip, (bracket, jp.int32(0)))
  low, high, *values = bracket
  found = _between(at(low), at(high), *values)
  return jp.where(slope < 0, found, 0)


class _Bends(NamedTuple):
  """Where rows become active or inactive along a step, `(n,)` each.

  Attributes:
    at: the breakpoints; 0 of rows that stay as they are.
    leaves: whether a row becomes inactive.
    enters: whether a row becomes active.
    weight: a row's second derivative by the step while it is active.
    always: the part of the second derivative that never changes, scalar.
  """

  at: jax.Array
  leaves: jax.Array
  enters: jax.Array
  weight: jax.Array
  always: jax.Array


def _bends(
  curvature: jax.Array,
  residual: jax.Array,
  rate: jax.Array,
  stiffness: jax.Array,
) -> _Bends:
  """The breakpoints of `minimiser`'s function."""
  active = residual < 0
  leaves, enters = active & (rate > 0), ~active & (rate < 0)
  bends = leaves | enters
  at = jp.where(bends, -residual / jp.where(bends, rate, 1), 0)
  weight = stiffness * rate * rate
  always = curvature + jp.sum(jp.where(active & ~leaves, weight, 0))
  return _Bends(at, leaves, enters, weight, always)


def minimiser(
  slope: jax.Array,
  curvature: jax.Array,
  residual: jax.Array,
  rate: jax.Array,
  stiffness: jax.Array,
) -> jax.Array:
  """The step at which a convex, piecewise quadratic function is least.

  Args:
    slope: its derivative at step 0, rows included, scalar.
    curvature: second derivative of its part without rows, scalar, positive.
    residual: of the rows at step 0, `(n,)`; a row counts where it is negative.
    rate: the residuals' derivatives by the step, `(n,)`.
    stiffness: the rows' second derivatives by the residual, `(n,)`, not
      negative.

  Returns:
    The step, scalar; 0 where the slope is not negative.
  """
  at, leaves, enters, weight, always = _bends(
    curvature, residual, rate, stiffness
  )
  bends = leaves | enters
  constant = always
  # The derivative less the slope at the nearest breakpoints. All terms are
  # positive, so that nothing cancels.
  point, comes, goes, bend = at, enters, leaves, weight
  if len(at) > NEAREST:
    key = jp.where(bends, at, jp.inf)
    _, near = jax.lax.top_k(-key, NEAREST)
    point, comes, goes, bend = (
      at[near],
      enters[near],
      leaves[near],
      weight[near],
    )
    far = leaves & (at > jp.max(jp.where(comes | goes, point, 0)))
    constant += jp.sum(jp.where(far, weight, 0))
  grown = jp.where(
    goes,
    jp.minimum(point[:, None], point),
    jp.where(comes, jp.maximum(point[:, None] - point, 0), 0),
  )
  rise = constant * point + jp.sum(bend * grown, axis=1)
  before = (comes | goes) & (rise <= -slope)
  start = jp.max(jp.where(before, point, 0), initial=0)
  passed = at <= start
  end = jp.min(jp.where(bends & ~passed, at, jp.inf), initial=jp.inf)
  # In the segment that follows `start`:
  total = always + jp.sum(jp.where(leaves & ~passed, weight, 0))
  total += jp.sum(jp.where(enters & passed, weight, 0))
  sign = jp.where(enters, 1, -1)
  target = jp.sum(jp.where(bends & passed, sign * weight * at, 0))
  step = (target - slope) / jp.where(slope < 0, total, 1)
  return jp.where(slope < 0, jp.clip(step, start, end), 0)


def followed(
  slope: jax.Array,
  curvature: jax.Array,
  residual: jax.Array,
  rate: jax.Array,
  stiffness: jax.Array,
) -> jax.Array:
  """`minimiser` by Newton's method, in some trips of a loop.

  A point follows from the derivative and its slope at the last one, or where
  that leads out of the bracket by halving it. Where no breakpoint lies between
  the two, only rounding separates it from the minimum, and one more removes it.
  """
  at, leaves, enters, weight, always = _bends(
    curvature, residual, rate, stiffness
  )
  bends = leaves | enters
  until, since = jp.where(leaves, weight, 0), jp.where(enters, weight, 0)

  def follow(carry):
    point, low, high, trips, _ = carry
    passed = at <= point
    grown = jp.where(passed, until * at + since * (point - at), until * point)
    value = slope + always * point + jp.sum(grown)
    low = jp.where(value < 0, point, low)
    high = jp.where(value < 0, high, point)
    new = point - value / (always + jp.sum(jp.where(passed, since, until)))
    inside = (new >= low) & (new <= high)
    new = jp.where(inside, new, (low + high) / 2)
    between = (at > jp.minimum(point, new)) & (at <= jp.maximum(point, new))
    more = ~inside | jp.any(bends & between)
    return new, low, high, trips + 1, more & (trips < _TRIPS)

  zero = jp.zeros_like(slope)
  carry = zero, zero, jp.full_like(slope, jp.inf), jp.int32(0), slope < 0
  carry = jax.lax.while_loop(lambda carry: carry[-1], follow, carry)
  return jp.where(slope < 0, follow(carry)[0], 0)
