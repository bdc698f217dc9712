"""Where the arrays of ONE seed are, as its program says it to the compiler."""

from typing import Any

import jax

from mjx_crossq.learner.states import AgentState, Transition

_LANES = {'tpu': 128}
"""Numbers in a row of a platform's registers, if it has such."""


def columns(platform: str) -> int:
  """What the replay's columns are a multiple of on a device of a platform.

  On a TPU rows that fill whole lanes, as its memory pads them in any case.
  Otherwise XLA chooses one order of the axes for the write and another for the
  gather, and copies the whole replay between them at every decision.

  Args:
    platform: as JAX names it.
  """
  return _LANES.get(platform, 1)


class Layout:
  """On one device, where there is nothing to say.

  Attributes:
    columns: the replay's columns are a multiple of it.
  """

  def __init__(self, platform: str = ''):
    """Of one device.

    Args:
      platform: of the device, as JAX names it; '' for any without lanes.
    """
    self.columns = columns(platform)

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
