"""The on-device training loop of ONE seed.

    act -> env.step -> replay.add -> UTD x (replay.sample -> agent.update)

`runner.py` adds the seed axis. What all seeds share, the iteration counter,
stays off that axis; from it follow the episode clock, the replay's position,
the warm-up and the policy delay, so none of them turns into a masked
computation under `vmap`.

Randomness is a tree that depends on the seed and the counter only, which
makes a resumed run equal to an undisturbed one:

    key(seed) -> agent
              -> loop -> fold_in(iteration) -> act, reset, learn
                         learn -> one key an update -> sample, update
              -> loop -> fold_in(-1) -> fold_in(index) -> a reset's agent
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from envs.base import Env
from mjx_crossq import reward_scale
from mjx_crossq.agent import (
  ACTOR_METRICS,
  CRITIC_METRICS,
  Agent,
  Metrics,
)
from mjx_crossq.config import Config
from mjx_crossq.replay import Replay
from mjx_crossq.resets import Resets
from mjx_crossq.rollout import Rollout, RolloutState
from mjx_crossq.states import AgentState, Transition

# How often each metric is measured in a chunk: the count, and what it counts.
COUNTS = {'updates': CRITIC_METRICS, 'actor_updates': ACTOR_METRICS}


@struct.dataclass
class TrainState:
  """Everything a run needs to go on.

  Attributes:
    agent: networks, optimisers, temperature.
    rollout: environments and episode statistics.
    replay: ring buffer, `(replay_rows, row_size)`.
    key: typed key of the loop; constant.
    iteration: iterations done, `()`; shared by all seeds.
  """

  agent: AgentState
  rollout: RolloutState
  replay: jax.Array
  key: jax.Array
  iteration: jax.Array


class Trainer:
  """Training of one seed.

  Attributes:
    config: the configuration.
    agent: functions of the agent.
    rollout: functions of the environments.
    replay: functions of the replay.
    resets: when the agent starts anew.
  """

  def __init__(self, config: Config, env: Env):
    """Fits the parts to the environment's sizes."""
    obs_size, action_size = env.observation_size, env.action_size
    assert isinstance(obs_size, int), 'observations must be flat vectors'
    self.config = config
    self.agent = Agent(config, obs_size, action_size)
    self.rollout = Rollout(
      env,
      config.num_envs,
      config.action_repeat,
      config.gamma if config.normalize_rewards else None,
    )
    self.replay = Replay(
      config.replay_rows, config.num_envs, obs_size, action_size
    )
    self.resets = Resets(config)

  def init(self, key: jax.Array) -> TrainState:
    """The state before the first iteration, from the seed's key."""
    key_agent, key_loop = jax.random.split(key)
    return TrainState(
      agent=self.agent.init(key_agent),
      rollout=self.rollout.init(),
      replay=self.replay.init(),
      key=key_loop,
      iteration=jnp.int32(0),
    )

  def train_chunk(
    self, state: TrainState, stop: jax.Array
  ) -> tuple[TrainState, Metrics]:
    """Iterates until `state.iteration == stop`.

    The number of iterations is data, not shape: one compiled program serves
    chunks of every length.

    Args:
      state: the state; donate it.
      stop: the iteration to stop at, `()`.

    Returns:
      The state, and the sums of the chunk's metrics; `mean_metrics` divides
      them by the counts among them.
    """

    def condition(carry):
      return carry[0].iteration < stop

    def body(carry):
      state, sums = carry
      state, metrics = self.iterate(state)
      return state, jax.tree.map(jnp.add, sums, metrics)

    return jax.lax.while_loop(condition, body, (state, _zeros()))

  def iterate(self, state: TrainState) -> tuple[TrainState, Metrics]:
    """One decision in every environment, and the updates it pays for."""
    c = self.config
    key = jax.random.fold_in(state.key, state.iteration)
    key_act, key_reset, key_learn = jax.random.split(key, 3)
    learning = state.iteration >= c.warmup_iterations

    rollout = self.rollout.begin(state.rollout, key_reset, state.iteration)
    action = self._act(state.agent, rollout.env.obs, key_act, learning)
    rollout, transitions = self.rollout.step(rollout, action, state.iteration)
    replay = self.replay.add(state.replay, transitions, state.iteration)

    def learn(agent):
      agent = self.resets.apply(self.agent, agent, state.key, state.iteration)
      return self._learn(agent, rollout, replay, key_learn, state.iteration)

    def wait(agent):
      return agent, _zeros()

    agent, metrics = jax.lax.cond(learning, learn, wait, state.agent)
    iteration = state.iteration + 1
    return TrainState(agent, rollout, replay, state.key, iteration), metrics

  def _act(
    self,
    agent: AgentState,
    obs: jax.Array,
    key: jax.Array,
    learning: jax.Array,
  ) -> jax.Array:
    """The policy's actions, or uniform ones during the warm-up."""
    shape = (self.config.num_envs, self.agent.action_size)

    def act():
      return self.agent.explore(agent.actor, obs, key)

    def explore():
      return jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)

    return jax.lax.cond(learning, act, explore)

  def sample(
    self,
    replay: jax.Array,
    reward_stats: reward_scale.ReturnStats | None,
    key: jax.Array,
    rows: int,
    iteration: jax.Array,
  ) -> Transition:
    """Transitions as the agent learns from them.

    Args:
      replay: the buffer.
      reward_stats: of the rollout; their scale divides the rewards.
      key: randomness.
      rows: how many.
      iteration: iterations that have been added.
    """
    batch = self.replay.sample(replay, key, rows, iteration)
    if reward_stats is None:
      return batch
    reward = batch.reward / reward_scale.scale(reward_stats)
    return batch.replace(reward=reward)  # pyright: ignore

  def _learn(
    self,
    agent: AgentState,
    rollout: RolloutState,
    replay: jax.Array,
    key: jax.Array,
    iteration: jax.Array,
  ) -> tuple[AgentState, Metrics]:
    """The updates of one iteration, and the sums of their metrics."""
    c = self.config
    updates = c.updates_per_iteration
    # Counted from the last reset, as the optimisers do.
    first = (iteration - self.resets.start(iteration)) * updates

    def update(agent, inputs):
      key, index = inputs
      key_sample, key_update = jax.random.split(key)
      batch = self.sample(
        replay, rollout.reward_stats, key_sample, c.batch_size, iteration + 1
      )
      with_actor = index % c.policy_delay == 0
      agent, metrics = self.agent.update(agent, batch, key_update, with_actor)
      counts = {
        'updates': jnp.float32(1),
        'actor_updates': with_actor.astype(jnp.float32),
      }
      return agent, metrics | counts

    inputs = (jax.random.split(key, updates), first + jnp.arange(updates))
    agent, metrics = jax.lax.scan(update, agent, inputs)
    return agent, jax.tree.map(lambda x: jnp.sum(x, axis=0), metrics)


def _zeros() -> Metrics:
  """The sums before the first update: every metric and every count."""
  names = [*COUNTS, *(name for names in COUNTS.values() for name in names)]
  return {name: jnp.float32(0) for name in names}


def mean_metrics(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Averages of a chunk's metrics over its updates, on the host.

  Args:
    sums: what `train_chunk` returns, with any leading axes.

  Returns:
    The means (those of the actor over the actor's updates; NaN where there
    was none), and the counts themselves.
  """
  counts = {name: np.asarray(sums[name]) for name in COUNTS}
  with np.errstate(invalid='ignore'):
    means = {
      name: np.asarray(sums[name]) / counts[count]
      for count, names in COUNTS.items()
      for name in names
    }
  return means | counts
