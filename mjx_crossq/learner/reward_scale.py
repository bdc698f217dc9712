"""Rewards divided by the standard deviation of discounted returns (XQC).

The replay holds the unscaled rewards; a batch is divided by the present
standard deviation when it is drawn, as `danielpalenicek/xqc` does. In that code
the return of an episode ends before its last reward; here it ends after it.
`Holiday-Robot/FlashSAC` also keeps the largest return within the atoms of the
critic (`scale`).
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

MOMENTS = ('count', 'mean', 'mean_rest', 'var', 'var_rest', 'largest')
"""The fields of `ReturnStats` that are not of single environments."""


@struct.dataclass
class ReturnStats:
  """Running moments of the discounted returns of one seed.

  After millions of decisions, each one changes the moments by less than float32
  resolves. So the rounding error of each sum is kept beside it and added to the
  next term (compensated summation).

  Attributes:
    discounted: discounted sum of each environment's episode so far,
      `(num_envs,)`.
    count: returns seen, int32 `()`.
    mean: of them, `()`.
    mean_rest: rounding error of `mean`, to be added to it, `()`.
    var: of them, `()`.
    var_rest: rounding error of `var`, likewise, `()`.
    largest: the largest absolute value of them, `()`, or None if it is not
      measured.
  """

  discounted: jax.Array
  count: jax.Array
  mean: jax.Array
  mean_rest: jax.Array
  var: jax.Array
  var_rest: jax.Array
  largest: Any = None


def init(num_envs: int, *, keep_largest: bool = False) -> ReturnStats:
  """Nothing seen yet."""
  zero = jnp.float32(0)
  largest = zero if keep_largest else None
  moments = jnp.int32(0), zero, zero, zero, zero, largest
  return ReturnStats(jnp.zeros(num_envs), *moments)


def update(
  stats: ReturnStats,
  reward: jax.Array,
  over: jax.Array,
  gamma: float | jax.Array,
) -> ReturnStats:
  """Adds one decision of each environment.

  Args:
    stats: before.
    reward: `(num_envs,)`.
    over: whether the episodes end with it, `(num_envs,)` or `()`.
    gamma: discount per decision.
  """
  discounted = gamma * stats.discounted + reward
  count = stats.count + discounted.size
  share = discounted.size / count
  centred = discounted - stats.mean - stats.mean_rest
  delta = jnp.mean(centred)
  # Chan's formula for the moments of the union of two samples.
  squares = jnp.var(centred) + delta**2 * (stats.count / count)
  change = (squares - stats.var - stats.var_rest) * share
  mean, mean_rest = _add(stats.mean, stats.mean_rest, delta * share)
  var, var_rest = _add(stats.var, stats.var_rest, change)
  largest = stats.largest
  if largest is not None:
    largest = jnp.maximum(largest, jnp.max(jnp.abs(discounted)))
  return ReturnStats(
    discounted=jnp.where(over, 0.0, discounted),
    count=count,
    mean=mean,
    mean_rest=mean_rest,
    var=var,
    var_rest=var_rest,
    largest=largest,
  )


def _add(
  total: jax.Array, rest: jax.Array, x: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """`total + rest + x` as a sum and its rounding error (Knuth's two-sum)."""
  x = x + rest
  new = total + x
  back = new - total
  return new, (total - (new - back)) + (x - back)


def scale(stats: ReturnStats | None, limit: float = math.inf) -> jax.Array:
  """The number that rewards are divided by, `()`.

  Args:
    stats: None where rewards are not scaled.
    limit: where the largest return is measured, none is above it once it is
      divided.

  Returns:
    The returns' standard deviation; 1 while all were equal, and for None.
  """
  if stats is None:
    return jnp.float32(1)
  std = jnp.where(stats.var > 0, jnp.sqrt(stats.var) + 1e-8, 1.0)
  return (
    std if stats.largest is None else jnp.maximum(std, stats.largest / limit)
  )
