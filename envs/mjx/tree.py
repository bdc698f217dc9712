"""MJX's walks over the tree of bodies, kept apart level by level on CPU.

MJX computes a level of the tree from the one before. XLA's CPU compiler fuses
a level into each of its readers, which repeats it there, and so on down the
tree: work, and compile time, grow exponentially with its depth. A barrier after
each level stops that: kinematics of 32 swimmers of 15 links, on 2 cores, from
2,360 ms to 0.9 ms, a control step of 32 hoppers, of five links, from 10 to 4.

`corrections.install` replaces MJX's walk by this one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx._src import scan

_fused = scan.body_tree


def apart(x: Any) -> Any:
  """Keeps XLA's CPU compiler from computing values anew in each reader.

  The program must not depend on the machine that it is traced on, so the choice
  is made when it is lowered for a platform.
  """
  return jax.lax.platform_dependent(
    x, cpu=jax.lax.optimization_barrier, default=lambda y: y
  )


@functools.wraps(_fused)
def body_tree(model: Any, f: Callable[..., Any], *args: Any, **kwargs: Any):
  """See `mujoco.mjx._src.scan.body_tree`, of which this is a wrapper."""

  def level(*x: Any) -> Any:
    return apart(f(*x))

  return _fused(model, level, *args, **kwargs)
