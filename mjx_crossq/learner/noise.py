"""Noise that a policy acts with for several decisions (arXiv 2604.04539).

One draw is kept for k decisions, with a probability of k that falls as 1/k^2 up
to a longest run (a truncated zeta distribution, as `Holiday-Robot/FlashSAC` has
it). All environments of a seed change theirs together. The ends of episodes do
not matter, and losses have noise of their own.
"""

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class HeldNoise:
  """The noise of one seed's environments.

  Attributes:
    value: standard normals, `(num_envs, action_size)`.
    left: decisions that it is still kept for, int32 `()`.
  """

  value: jax.Array
  left: jax.Array


def init(num_envs: int, action_size: int) -> HeldNoise:
  """None yet: the first decision draws it."""
  return HeldNoise(jnp.zeros((num_envs, action_size)), jnp.int32(0))


def advance(noise: HeldNoise, key: jax.Array, longest: int) -> HeldNoise:
  """The noise of the next decision.

  Whether it is new depends on the seed, so that it is selected and no branch.

  Args:
    noise: of the decision before.
    key: randomness of this decision.
    longest: the longest run of decisions with one draw.
  """
  fresh = jax.random.normal(key, noise.value.shape)
  lengths = jnp.arange(1, longest + 1)
  length = lengths[
    jax.random.categorical(jax.random.fold_in(key, 1), -2 * jnp.log(lengths))
  ]
  over = noise.left == 0
  return HeldNoise(
    value=jnp.where(over, fresh, noise.value),
    left=jnp.where(over, length, noise.left) - 1,
  )
