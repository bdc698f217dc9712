"""Computations that have a way of their own on CPUs."""

from collections.abc import Callable
from typing import Any

import jax


def by_platform(
  *operands: Any, cpu: Callable[..., Any], default: Callable[..., Any]
) -> Any:
  """`cpu` or `default` of the operands, chosen when a program is lowered.

  So the program for a platform does not depend on where it is traced. Under
  `vmap` JAX goes through each alternative twice, and through a `jit` in it
  once.

  Args:
    *operands: of either.
    cpu: the computation on CPUs.
    default: the computation on other platforms.

  Returns:
    What both return, in shapes and types.
  """
  return jax.lax.platform_dependent(
    *operands, cpu=jax.jit(cpu), default=jax.jit(default)
  )
