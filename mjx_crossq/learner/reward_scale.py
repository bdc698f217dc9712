"""Rewards divided by the standard deviation of discounted returns (XQC).

The replay holds the unscaled rewards; a batch is divided by the present
standard deviation when it is drawn, as `danielpalenicek/xqc` does. In that code
the return of an episode ends before its last reward; here it ends after it.
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class ReturnStats:
  """Running moments of the discounted returns of one seed.

  Attributes:
    discounted: discounted sum of each environment's episode so far,
      `(num_envs,)`.
    count: returns seen, `()`.
    mean: of them, `()`.
    var: of them, `()`.
  """

  discounted: jax.Array
  count: jax.Array
  mean: jax.Array
  var: jax.Array


def init(num_envs: int) -> ReturnStats:
  """Nothing seen yet."""
  zero = jnp.float32(0)
  return ReturnStats(jnp.zeros(num_envs), zero, zero, zero)


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
  new = discounted.size
  count = stats.count + new
  delta = jnp.mean(discounted) - stats.mean
  # Chan's formula for the moments of the union of two samples.
  var = (
    stats.var * stats.count
    + jnp.var(discounted) * new
    + delta**2 * stats.count * new / count
  ) / count
  return ReturnStats(
    discounted=jnp.where(over, 0.0, discounted),
    count=count,
    mean=stats.mean + delta * new / count,
    var=var,
  )


def scale(stats: ReturnStats | None) -> jax.Array:
  """The number that rewards are divided by, `()`.

  Args:
    stats: None where rewards are not scaled.

  Returns:
    The returns' standard deviation; 1 while all were equal, and for None.
  """
  if stats is None:
    return jnp.float32(1)
  return jnp.where(stats.var > 0, jnp.sqrt(stats.var) + 1e-8, 1.0)
