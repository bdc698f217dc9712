"""What the program of ONE seed says about where its arrays lie."""

from typing import Any

import jax

from mjx_crossq.learner.states import AgentState, Transition


class Layout:
  """One device: nothing is said.

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
