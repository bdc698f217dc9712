"""On which devices the arrays of ONE seed are, as the compiler is told."""

from typing import Any

import jax
from jax.experimental import layout

from mjx_crossq.learner.states import AgentState, Transition

_LANES = {'tpu': 128}
"""Numbers in a row of a vector register, for platforms that pad rows to it."""


def columns(platform: str) -> int:
  """The number of which the replay's columns are a multiple on a platform.

  On a TPU it is the number of lanes, to which its memory pads rows in any case.
  With other rows XLA chooses one order of the axes for the write and another
  for the gather, and copies the whole replay between them at every decision.

  Args:
    platform: as JAX names it.
  """
  return _LANES.get(platform, 1)


class Layout:
  """The layout on one device, which adds nothing to the program.

  Attributes:
    columns: number of which the replay's columns are a multiple.
  """

  def __init__(self, platform: str = ''):
    """Sets the number of columns.

    Args:
      platform: of the device, as JAX names it; '' for any without lanes.
    """
    self.columns = columns(platform)

  def replay(self, buffer: jax.Array) -> jax.Array:
    """The replay after an `add`, `(replay_rows, row_size)`.

    Its rows are rows in memory, too. Of short ones, XLA for GPUs would change
    the order of the axes before the write and back after it.
    """
    return layout.with_layout_constraint(buffer, layout.Layout((0, 1)))

  def batch(self, batch: Transition) -> Transition:
    """A batch that was drawn, leaves `(batch_size, ...)`."""
    return batch

  def rollout(self, state: Any) -> Any:
    """A `RolloutState` after a step."""
    return state

  def agent(self, agent: AgentState) -> AgentState:
    """The agent after an update."""
    return agent
