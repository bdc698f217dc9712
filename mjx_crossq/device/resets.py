"""Full resets of the agent at set times; the replay is kept.

Source: arXiv 2205.07802 and the high-replay-ratio SAC of Schwarzer and
D'Oro (ICLR 2023), every so many updates; BRO (arXiv 2405.16158), at a list of
env steps. The times of the resets follow from the iteration counter, which all
seeds share, so that the state of a run holds nothing about them.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.config import Config
from mjx_crossq.learner import branches
from mjx_crossq.learner.agent import Agent
from mjx_crossq.learner.states import AgentState

# Folded into the loop's key before the index of a reset. The loop itself folds
# in its iterations, which are always smaller.
_STREAM = np.uint32(2**32 - 1)


@dataclasses.dataclass(frozen=True)
class Resets:
  """The schedule of a configuration.

  A reset comes between an iteration's acting and its updates.

  Attributes:
    config: its `reset_every`, or its `reset_at`, is the schedule.
  """

  config: Config

  @property
  def any(self) -> bool:
    """Whether there are any."""
    return bool(self.config.reset_every or self.config.reset_at)

  def count(self, iteration: jax.Array) -> jax.Array:
    """Resets due up to and including this iteration, `()`."""
    c = self.config
    if c.reset_every:
      learning = jnp.maximum(iteration - c.warmup_iterations, 0)
      updates = learning // c.update_every * c.updates_per_iteration
      return updates // c.reset_every
    return jnp.sum(jnp.asarray(c.reset_iterations) <= iteration)

  def start(self, iteration: jax.Array) -> jax.Array:
    """The iteration at which the present agent began to learn, `()`.

    From it follow the updates that this agent has seen, and with them the
    policy delay.
    """
    c = self.config
    if not self.any:
      return jnp.int32(c.warmup_iterations)
    if c.reset_every:
      updates = self.count(iteration) * c.reset_every
      times = -(-updates // c.updates_per_iteration)
      return c.warmup_iterations + times * c.update_every
    times = jnp.asarray(c.reset_iterations)
    latest = jnp.max(jnp.where(times <= iteration, times, 0))
    return jnp.maximum(latest, c.warmup_iterations)

  def due(self, iteration: jax.Array) -> jax.Array:
    """Whether there is one in this iteration, `()`; none in the warm-up."""
    learning = iteration >= self.config.warmup_iterations
    return learning & (self.count(iteration) > self.count(iteration - 1))

  def apply(
    self,
    agent: Agent,
    state: AgentState,
    key: jax.Array,
    iteration: jax.Array,
  ) -> AgentState:
    """The agent, or a new one where a reset is due.

    Networks, targets, temperature and optimisers are all new.

    Args:
      agent: makes it.
      state: the agent before this iteration's updates.
      key: the seed's constant key; with the reset's index it decides the new
        parameters.
      iteration: this iteration; must not depend on the seed, so that a
        network is drawn only when it is due.
    """
    if not self.any:
      return state

    def fresh(_):
      stream = jax.random.fold_in(key, _STREAM)
      return agent.init(jax.random.fold_in(stream, self.count(iteration)))

    return branches.when(self.due(iteration), fresh, state)
