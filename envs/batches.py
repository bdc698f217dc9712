"""Environments of one task at once, each with its own seed and episodes."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.envs import base, forks

_keys = jax.jit(jax.vmap(base.episode_key))


@jax.jit
def _select(rows: jax.Array, new: Any, old: Any) -> Any:
  """Takes the marked rows, bool `(num_envs,)`, from `new`, else `old`."""

  def select(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.where(rows.reshape(-1, *[1] * (a.ndim - 1)), a, b)

  return jax.tree.map(select, new, old)


class Batch:
  """The simulation of many environments, and the clocks of their episodes.

  Attributes:
    task: the environment that is batched.
    state: its state with an axis `(num_envs,)` before all others; None before
      the first episode.
    seeds: `(num_envs,)` uint32.
    episodes: index of the episode since the seed was set, `(num_envs,)`.
    steps: since the episode began, `(num_envs,)`.
  """

  def __init__(self, task: base.Env, num_envs: int):
    """Builds the batch; `begin` begins the first episodes.

    Args:
      task: of the suite, or any other.
      num_envs: how many.

    Raises:
      RuntimeError: JAX would hang in this process; see `forks`.
    """
    forks.check()
    self.task = task
    self.state: Any = None
    self.seeds = np.zeros(num_envs, np.uint32)
    self.episodes = np.full(num_envs, -1, np.int32)
    self.steps = np.zeros(num_envs, np.int64)
    self._reset = jax.jit(jax.vmap(task.reset))
    self._step = jax.jit(jax.vmap(task.step))

  def seed(self, rows: np.ndarray, seeds: Sequence[int | None], rng: Any):
    """Makes the next episode of some environments the first of a seed.

    Args:
      rows: which, bool `(num_envs,)`.
      seeds: of each environment; their low 32 bits count. None goes on with
        the one there is; before the first episode it is drawn.
      rng: a NumPy generator to draw from.
    """
    for row in np.flatnonzero(rows).tolist():
      seed = seeds[row]
      if seed is None and self.state is None:
        seed = int(rng.integers(2**32))
      if seed is not None:
        self.seeds[row], self.episodes[row] = seed % 2**32, -1

  def begin(self, rows: np.ndarray) -> None:
    """Begins the next episode of some environments.

    Args:
      rows: which, bool `(num_envs,)`. All where there is no episode yet.
    """
    forks.check()
    self.episodes += rows
    fresh = self._reset(_keys(self.seeds, self.episodes))
    if not rows.all():
      fresh = _select(rows, fresh, self.state)
    self.state = fresh
    self.steps[rows] = 0

  def step(self, actions: Any, idle: np.ndarray) -> None:
    """Takes one control step.

    Args:
      actions: `(num_envs, action_size)` in [-1, 1].
      idle: those that begin an episode instead, bool `(num_envs,)`.
    """
    forks.check()
    if not idle.all():
      self.state = self._step(self.state, jnp.asarray(actions, jnp.float32))
    if idle.any():
      self.begin(idle)
    self.steps += ~idle

  def terminated(self) -> np.ndarray:
    """Which ended by themselves, bool `(num_envs,)`.

    The host waits for the device only if the task can terminate.
    """
    if not self.task.terminates:
      return np.zeros(len(self.steps), bool)
    return np.asarray(self.state.done) > 0
