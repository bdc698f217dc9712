"""Where the arrays of ONE seed are, as its program says it to the compiler."""

from typing import Any

import jax

from mjx_crossq.learner.states import AgentState, Transition


class Layout:
  """On one device, where there is nothing to say.

  Attributes:
    columns: the replay's columns are a multiple of it.
  """

  columns: int = 1

  def replay(self, buffer: jax.Array) -> jax.Array:
    """The replay after an `add`, `(replay_rows, row_size)`."""
    return buffer

  def batch(self, batch: Transition) -> Transition:
    """A batch that was drawn, leaves `(batch_size, ...)`."""
    return batch

  def rollout(self, state: Any) -> Any:
    """A `RolloutState` after a step."""
    return state

  def agent(self, agent: AgentState) -> AgentState:
    """The agent after an update."""
    return agent
