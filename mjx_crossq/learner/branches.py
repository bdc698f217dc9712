"""A branch that costs nothing where it is not taken."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp

State = TypeVar('State')


def when(
  condition: jax.Array, function: Callable[[State], State], state: State
) -> State:
  """`function(state)` if the condition holds, else `state`.

  The same as `lax.cond`, as a loop of at most one trip: XLA changes the arrays
  that a loop carries in place, while the branch of a `cond` that returns its
  arguments copies each of them.

  Args:
    condition: `()`; under `vmap` it must not depend on the mapped axis.
    function: its result has the shapes and types of its argument.
    state: any arrays.
  """

  def body(carry):
    return jnp.bool_(False), function(carry[1])

  carry = jnp.bool_(condition), state
  return jax.lax.while_loop(lambda carry: carry[0], body, carry)[1]
