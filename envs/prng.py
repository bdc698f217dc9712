"""Keys of random numbers, which do not depend on settings of jax."""

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
  import jax  # records name `IMPL`, and need no jax

  return jax.random.key(seed, impl=IMPL)


def as_default() -> Any:
  """A context in which others that name no implementation get `IMPL`."""
  import jax

  return jax.default_prng_impl(IMPL)
