"""Counts of what a physics step left out, in an integer that MJX carries.

MJX's data have a number of solver iterations, which our solver leaves alone. It
holds both counts of a control step here, so that states and checkpoints stay as
they are and a loop carries nothing more.
"""

from typing import Any

import jax
import jax.numpy as jp

NAMES = ('contacts_dropped', 'solver_capped')
"""The counts by name; see `of`."""

_FIELD = '_impl.solver_niter'
_SOLVE = 2**16
"""What a solve adds; dropped contacts of a control step are fewer."""


def cleared(data: Any) -> Any:
  """Data of which nothing is counted yet."""
  return data.tree_replace({_FIELD: jp.zeros_like(data._impl.solver_niter)})


def with_dropped(data: Any, contacts: jax.Array | int) -> Any:
  """Data that count more dropped contacts.

  Args:
    data: an `mjx.Data`.
    contacts: how many, `()`.
  """
  return data.tree_replace({_FIELD: data._impl.solver_niter + contacts})


def with_capped(data: Any, capped: jax.Array) -> Any:
  """Data that count one more solve, if it ended at its cap.

  Args:
    data: an `mjx.Data`.
    capped: whether the solve did, `()`.
  """
  more = jp.where(capped, _SOLVE, 0)
  return data.tree_replace({_FIELD: data._impl.solver_niter + more})


def of(data: Any) -> dict[str, jax.Array]:
  """The counts since `cleared`, float32 `()` each.

  Args:
    data: an `mjx.Data`.

  Returns:
    `contacts_dropped`: contacts that touched, or may have, for which there was
    no slot or no pair; `solver_capped`: solves that ended at the largest number
    of iterations before they converged.
  """
  count = data._impl.solver_niter
  values = count % _SOLVE, count // _SOLVE
  return {
    name: value.astype(jp.float32)
    for name, value in zip(NAMES, values, strict=True)
  }
