"""The interface between environments and the learner.

It is `brax.envs.base.Env` with the four facts that a trainer of episodic
tasks needs beyond it: how long an episode is, whether an environment can end
by itself, how it is called, and which stock environment it mirrors.
"""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import struct

from mjx_crossq.envs import prng, runtime, saved_states

with runtime.quiet():
  import brax.envs.base as brax_base


@struct.dataclass
class State(brax_base.State):
  """brax's environment state, with properties for the physics state.

  Fields are those of `brax.envs.base.State`; `obs` is a float32 vector,
  `reward` and `done` float32 scalars (before any `vmap`).
  """

  @property
  def qpos(self) -> jax.Array:
    """Generalised positions, `(nq,)`."""
    return self.pipeline_state.qpos  # pyright: ignore

  @property
  def qvel(self) -> jax.Array:
    """Generalised velocities, `(nv,)`."""
    return self.pipeline_state.qvel  # pyright: ignore

  @property
  def act(self) -> jax.Array:
    """Actuator activations, `(na,)`."""
    return self.pipeline_state.act  # pyright: ignore


class Env(brax_base.Env):
  """An environment for ONE agent; batches are made with `jax.vmap`.

  Actions are in [-1, 1] for every task and are rescaled by the environment.
  `reset` takes a typed key and draws a fresh random initial state. `step`
  never resets by itself: the observation after the last step is the true
  final observation.
  """

  name: str = 'env'
  """How the task is called in flags, files and errors."""

  episode_length: int = 1000
  """Time limit in control steps (env steps)."""

  terminates: bool = False
  """Whether `done` can ever be 1. A time limit is not a termination."""

  actor_observation: tuple[int, int] | None = None
  """The entries of an observation that the policy sees: the first, and the one
  after the last; None for all."""

  critic_observation: tuple[int, int] | None = None
  """The entries of an observation that the critic sees, likewise."""

  def simulated(self, state: Any) -> Any:
    """The arrays that are not finite where the simulation has diverged.

    Args:
      state: of this environment.

    Returns:
      Positions, velocities and activations, or else all of `pipeline_state`.
    """
    physics = state.pipeline_state
    if hasattr(physics, 'qpos'):
      return physics.qpos, physics.qvel, physics.act
    return physics

  watched: tuple[str, ...] = ()
  """Names of the counts of `watch`."""

  def watch(self, state: Any) -> dict[str, jax.Array]:
    """What the simulation left out in the last step, which cost it accuracy.

    Args:
      state: of this environment.

    Returns:
      Counts, float32 `()`, by the names in `watched`.
    """
    del state
    return {}

  def save_state(self, state: State) -> dict[str, Any]:
    """All that the following steps depend on, as arrays by name.

    `state_from` gives what stock has after setting positions and velocities;
    in mid-episode a state also has a warm start and the last solve's forces.

    Args:
      state: of one environment, or of many with any leading axes. Also within
        `jax.vmap` and `jax.jit`.

    Returns:
      Every array of the state by its path, such as `obs` and
      `pipeline_state.qpos`, and `task`, the name of the environment as uint8.
      `numpy.savez` takes them. Random keys are saved as their data.
    """
    return saved_states.to_arrays(state, self.name)

  def load_state(self, arrays: Mapping[str, Any]) -> State:
    """The inverse of `save_state`, in this process or another.

    Steps from the result equal those from the state that was saved to the bit,
    on the same kind of device with the same versions of the programs.

    Args:
      arrays: as `save_state` returned them, all with the same leading axes.

    Returns:
      The state.

    Raises:
      ValueError: they are not a state of this environment; the message names
        the array and what to do.
    """
    like = jax.eval_shape(self.reset, jax.eval_shape(prng.key, 0))
    return saved_states.from_arrays(arrays, like, self.name)

  def stock_env(self, seed: int) -> Any | None:
    """The stock environment that this one mirrors, if there is one.

    Args:
      seed: seeds the stock task's random state.

    Returns:
      A `dm_env.Environment` with stock actions and a dict of observations, or
      None for an environment that mirrors nothing.
    """
    del seed
    return None

  def stock_only(self) -> 'Env':
    """An environment of which `stock_env` alone works, for other processes.

    It is pickled; environments that are large, or cannot be, override this.
    """
    return self

  unfaithful: str = ''
  """How the task differs from the stock one that it mirrors, if by more than
  rounding does; with the measured error."""

  @property
  def backend(self) -> str:
    """The physics backend: 'mjx' or 'warp'."""
    return 'mjx'

  def set_physics(self, backend: str) -> None:
    """Chooses the physics backend, before anything is simulated.

    Args:
      backend: 'mjx' or 'warp'.

    Raises:
      ValueError: there is no such backend, or not for this task.
    """
    if backend != self.backend:
      raise ValueError(
        f'{self.name} has no physics {backend!r}; take {self.backend!r}'
      )

  @property
  def action_range(self) -> tuple[Any, Any]:
    """The stock action bounds (low, high), each `(action_size,)`.

    A policy's action `a` in [-1, 1] becomes `low + (a + 1) / 2 * (high - low)`.
    They are -1 and 1 for an environment that mirrors nothing.
    """
    return -np.ones(self.action_size), np.ones(self.action_size)


def episode_key(seed: jax.Array, episode: jax.Array) -> jax.Array:
  """The key of a reset, where an interface counts the episodes itself.

  Args:
    seed: of the environment, uint32.
    episode: how many it began before.

  Returns:
    A key for `Env.reset`.
  """
  return jax.random.fold_in(prng.key(seed), episode)


def flatten_observation(observation: Mapping[str, Any]) -> np.ndarray:
  """Flattens a stock observation as policies see it.

  Args:
    observation: arrays or scalars by name, in stock order.

  Returns:
    float32 vector; a scalar becomes one entry.
  """
  parts = [np.ravel(value) for value in observation.values()]
  return np.concatenate(parts).astype(np.float32)
