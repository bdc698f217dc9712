"""The data that the agent learns from, and the state that learning changes."""

from typing import Any

import jax
from flax import struct


@struct.dataclass
class Transition:
  """Transitions of the environment, with the axes of a batch first.

  Attributes:
    obs: observation s, `(..., observation_size)`.
    action: action a in [-1, 1], `(..., action_size)`.
    reward: rewards summed over the action repeat, `(...)`.
    mask: 0 where the episode truly terminated, else 1 (also at a time
      limit), `(...)`.
    next_obs: true next observation s', also at an episode's end,
      `(..., observation_size)`.
  """

  obs: jax.Array
  action: jax.Array
  reward: jax.Array
  mask: jax.Array
  next_obs: jax.Array


@struct.dataclass
class Network:
  """A network's parameters and its running BatchNorm statistics."""

  params: Any
  batch_stats: Any


@struct.dataclass
class ActorState:
  """The state that the delayed update changes.

  Attributes:
    network: the policy.
    opt_state: its AdamW state.
    log_alpha: logarithm of the temperature, `()`.
    alpha_opt_state: the temperature's Adam state.
    explorer: the optimistic actor (`optimism.ExplorerState`), or None.
  """

  network: Network
  opt_state: Any
  log_alpha: jax.Array
  alpha_opt_state: Any
  explorer: Any = None


@struct.dataclass
class CriticState:
  """The state that every update changes.

  Attributes:
    network: the ensemble; leaves have the ensemble as their first axis.
    opt_state: its AdamW state.
    target_params: Polyak-averaged parameters, or None without a target
      network. They need no running statistics: see `Agent.critic_loss`.
  """

  network: Network
  opt_state: Any
  target_params: Any


@struct.dataclass
class AgentState:
  """Everything that learning changes."""

  actor: ActorState
  critic: CriticState
