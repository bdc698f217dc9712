"""Numbers that are not finite: found on the device, and contained.

An environment whose physics broke starts a new episode, and its transition
is not learned from. A seed whose learner broke keeps the last finite agent
until the run ends; the other seeds go on with the same numbers as without it.
The search costs a few reductions and one `where` over the agent in each
iteration, none of them over the replay.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import custom_batching

from mjx_crossq.learner import branches
from mjx_crossq.learner.states import Transition

_SMALL = 2**13
"""Largest size of an array that `is_finite` checks together with others."""


@custom_batching.custom_vmap
def any_seed(flag: jax.Array) -> jax.Array:
  """Whether a flag holds in ANY seed; of one seed alone, the flag itself.

  Under `vmap` the result does not depend on the seed, so a `cond` on it
  stays a branch and a `while_loop` may stop by it.

  Args:
    flag: `()`, boolean.
  """
  return flag


@any_seed.def_vmap
def _any_seed(axis_size, in_batched, flag):
  del axis_size
  return (jnp.any(flag, axis=0) if in_batched[0] else flag), False


def finite_environments(env: Any, physics: Any) -> jax.Array:
  """Which environments have only finite numbers.

  Args:
    env: states of `num_envs` environments, brax's `State`.
    physics: as `Env.simulated` returns it.

  Returns:
    `(num_envs,)`, of observation, reward, `done` and physics.
  """
  finite = jnp.isfinite(env.reward)
  for leaf in _floats((env.obs, env.done, physics)):
    axes = tuple(range(1, leaf.ndim))
    finite &= jnp.all(jnp.isfinite(leaf), axis=axes)
  return finite


def replace_broken(
  transitions: Transition,
  previous: Transition,
  finite: jax.Array,
  iteration: jax.Array,
) -> Transition:
  """Replaces the transitions of broken environments.

  Args:
    transitions: `num_envs` new ones.
    previous: those of the decision before, from the replay.
    finite: which of the new ones are finite, `(num_envs,)`.
    iteration: decisions taken before. At 0 there is no previous transition; the
      replacement is then one in which the state did not change.

  Returns:
    The transitions to store, all of them finite.
  """
  still = transitions.replace(  # pyright: ignore
    reward=jnp.zeros_like(transitions.reward),
    mask=jnp.ones_like(transitions.mask),
    next_obs=transitions.obs,
  )

  def choose(new, old, first):
    instead = jnp.where(iteration == 0, first, old)
    keep = finite.reshape((-1,) + (1,) * (new.ndim - 1))
    return jnp.where(keep, new, instead)

  return jax.tree.map(choose, transitions, previous, still)


def freeze_broken(
  agent: Any, kept: Any, frozen: jax.Array
) -> tuple[Any, Any, jax.Array]:
  """The agent after an iteration, or before it if it may not change.

  Args:
    agent: after the iteration's updates.
    kept: a copy of it from before them. Two copies that are both written in
      place cost less than one that is allocated in each iteration.
    frozen: whether this seed is frozen already, `()`.

  Returns:
    The agent, its copy, and whether the seed is frozen now.
  """
  frozen |= ~is_finite(agent)
  kept = jax.tree.map(lambda x, y: jnp.where(frozen, x, y), kept, agent)
  agent = branches.when(any_seed(frozen), lambda _: kept, agent)
  return agent, kept, frozen


def is_finite(tree: Any) -> jax.Array:
  """Whether every number of a tree is finite, `()`.

  On an accelerator each reduction costs a launch, so arrays of one shape (a
  parameter, its moments and its target) are combined before it, and all small
  arrays are concatenated.
  """
  small: list[jax.Array] = []
  large: dict[tuple[int, ...], jax.Array] = {}
  for leaf in _floats(tree):
    finite = jnp.isfinite(leaf)
    if leaf.size <= _SMALL:
      small.append(finite.ravel())
    else:
      large[leaf.shape] = large.get(leaf.shape, True) & finite
  groups = [*large.values(), *([jnp.concatenate(small)] if small else [])]
  return functools.reduce(
    jnp.logical_and, map(jnp.all, groups), jnp.bool_(True)
  )


def _floats(tree: Any) -> list[jax.Array]:
  return [
    leaf
    for leaf in jax.tree.leaves(tree)
    if jnp.issubdtype(leaf.dtype, jnp.floating)
  ]
