"""Keys of random numbers that do not depend on JAX's settings."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  import jax

IMPL = 'threefry2x32'
"""The implementation of all keys."""


def key(seed: 'int | jax.Array') -> 'jax.Array':
  """`jax.random.key` with the implementation `IMPL`.

  Args:
    seed: an integer.
  """
  import jax  # here, because records name `IMPL` without JAX

  return jax.random.key(seed, impl=IMPL)


def as_default() -> Any:
  """A context in which keys that name no implementation have `IMPL`."""
  import jax

  return jax.default_prng_impl(IMPL)
