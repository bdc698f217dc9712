"""The on-device training loop of ONE seed.

    act -> env.step -> replay.add -> UTD x (replay.sample -> agent.update)

`runner.py` adds the axis of the seeds. The iteration counter has no such axis,
because all seeds share it. The ends of episodes, the position in the replay,
the warm-up and the policy delay follow from it, so that under `vmap` they stay
branches of the program, and are not computed for both cases and masked.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from mjx_crossq.config import Config
from mjx_crossq.device import faults, randomness
from mjx_crossq.device.layout import Layout
from mjx_crossq.device.replay import Replay
from mjx_crossq.device.resets import Resets
from mjx_crossq.device.rollout import Rollout, RolloutState
from mjx_crossq.device.sums import COUNTS, EVENTS, LEARNED, sum_names
from mjx_crossq.envs.base import Env
from mjx_crossq.learner import branches, noise, reward_scale
from mjx_crossq.learner.agent import (
  ACTOR_METRICS,
  CRITIC_METRICS,
  Agent,
  Metrics,
  as_vector,
)
from mjx_crossq.learner.networks import Sees
from mjx_crossq.learner.states import AgentState, Transition


@struct.dataclass
class TrainState:
  """Everything a run needs to go on.

  Attributes:
    agent: networks, optimisers, temperature.
    rollout: environments and episode statistics.
    replay: ring buffer, `(replay_rows, row_size)`.
    key: typed key of the loop; constant.
    iteration: iterations done, `()`; shared by all seeds.
    frozen: whether an update of this seed was not finite, `()`; its agent
      stays as it was before.
    hyper: the hyper-parameters that vary from row to row (`vary.py`), `()`
      each by name; empty where none does.
  """

  agent: AgentState
  rollout: RolloutState
  replay: jax.Array
  key: jax.Array
  iteration: jax.Array
  frozen: jax.Array
  hyper: Any = struct.field(default_factory=dict)


class Trainer:
  """Training of one seed.

  Attributes:
    config: the configuration.
    agent: functions of the agent.
    rollout: functions of the environments.
    replay: functions of the replay.
    resets: when the agent starts anew.
    layout: where the arrays of one seed are, if it is divided over devices.
  """

  def __init__(self, config: Config, env: Env, layout: Layout | None = None):
    """Fits the parts to the environment's sizes."""
    obs_size, action_size = env.observation_size, env.action_size
    assert isinstance(obs_size, int), 'observations must be flat vectors'
    self.config = config
    self.layout = layout or Layout()
    sees = Sees(env.actor_observation, env.critic_observation)
    self.agent = Agent(config, obs_size, action_size, sees=sees)
    self.rollout = Rollout(
      env, config.num_envs, config.action_repeat, config.groups
    )
    self.replay = Replay(
      config.replay_rows,
      config.num_envs,
      obs_size,
      action_size,
      self.layout.columns,
      config.init_transitions // config.num_envs,
    )
    self.resets = Resets(config)

  def init(
    self, key: jax.Array, hyper: Mapping[str, jax.Array] | None = None
  ) -> TrainState:
    """The state before the first iteration.

    Args:
      key: the seed's.
      hyper: the hyper-parameters that vary, `()` each.
    """
    hyper, c = dict(hyper or {}), self.config
    key_agent, key_loop = jax.random.split(key)
    rollout = self.rollout.init(
      keep_return_stats=c.normalize_rewards, keep_largest=c.bound_returns
    )
    if c.noise_repeat > 1:
      held = noise.init(c.num_envs, self.agent.action_size)
      rollout = rollout.replace(noise=held)  # pyright: ignore
    return TrainState(
      agent=self.agent.with_hyper(hyper).init(key_agent),
      rollout=rollout,
      replay=self.replay.init(),
      key=key_loop,
      iteration=jnp.int32(0),
      frozen=jnp.bool_(False),
      hyper=hyper,
    )

  def train_chunk(
    self, state: TrainState, stop: jax.Array, sums: Metrics
  ) -> tuple[TrainState, Metrics]:
    """Iterates until `state.iteration == stop`, or a seed is frozen.

    The number of iterations is data, not shape: one compiled program serves
    chunks of every length, and where a run is cut into chunks changes nothing.

    Args:
      state: the state; donate it.
      stop: the iteration to stop at, `()`.
      sums: `zero_sums`, or those of the chunk that this one goes on from.

    Returns:
      The state, and the sums of the metrics; `mean_metrics` divides them by
      the counts among them.
    """

    def condition(carry):
      state, *_, event = carry
      return (state.iteration < stop) & ~event

    def body(carry):
      before, kept, sums, _ = carry
      state, kept, metrics = self.iterate(before, kept)
      event = faults.any_seed(state.frozen & ~before.frozen)
      return state, kept, sums + metrics, event

    kept = jax.tree.map(jnp.copy, state.agent)
    # One array: on an accelerator each that is carried costs launches.
    names = sum_names(self.rollout.env.watched)
    carry = state, kept, as_vector(sums, names), jnp.bool_(False)
    state, _, vector, _ = jax.lax.while_loop(condition, body, carry)
    return state, dict(zip(names, vector, strict=True))

  def iterate(
    self, state: TrainState, kept: AgentState
  ) -> tuple[TrainState, AgentState, jax.Array]:
    """One decision in every environment, then the updates that are due.

    Args:
      state: the state.
      kept: a copy of its agent, for the case that an update is not finite.

    Returns:
      The state, a copy of its agent, and what the iteration adds to the sums
      of the metrics, in the order of `sum_names`.
    """
    functions = self.agent.with_hyper(state.hyper)
    rollout, action = self.decide(state)
    key_learn = randomness.keys(state.key, state.iteration).learn
    # `launch.inspect` tells the loop's parts by the names of these scopes.
    with jax.named_scope('environment'):
      rollout, transitions, finite, counts = self.rollout.step(
        rollout, action, state.iteration, functions.hyper.gamma
      )
    rollout = self.layout.rollout(rollout)
    with jax.named_scope('replay'):
      transitions = faults.replace_broken(
        transitions,
        self.replay.previous(state.replay, state.iteration),
        finite,
        state.iteration,
      )
      replay = self.layout.replay(
        self.replay.add(state.replay, transitions, state.iteration)
      )

    updating = self.updating(state.iteration)
    # A reset does not wait for an iteration that has updates.
    resets_alone = self.config.update_every > 1 and self.resets.any

    def update(before):
      with jax.named_scope('update'):
        return self._learn(
          functions,
          before[0],
          rollout.reward_stats,
          replay,
          key_learn,
          state.iteration,
        )

    def learn(before):
      agent, kept, frozen, _ = before
      agent = self.resets.apply(functions, agent, state.key, state.iteration)
      changed = agent, jnp.zeros(len(LEARNED))
      if resets_alone:
        agent, metrics = branches.when(updating, update, changed)
      else:
        agent, metrics = update(changed)
      return *faults.freeze_broken(agent, kept, frozen), metrics

    learning = updating
    if resets_alone:
      learning |= self.resets.due(state.iteration)
    nothing = jnp.zeros(len(LEARNED))
    agent, kept, frozen, learned = branches.when(
      learning, learn, (state.agent, kept, state.frozen, nothing)
    )
    events = {'env_faults': (~finite).astype(jnp.float32)} | counts
    watched = (*EVENTS, *self.rollout.env.watched)
    happened = jnp.sum(as_vector(events, watched), axis=1)
    metrics = jnp.concatenate([learned, happened])
    iteration = state.iteration + 1
    state = TrainState(
      agent, rollout, replay, state.key, iteration, frozen, state.hyper
    )
    return state, kept, metrics

  def decide(self, state: TrainState) -> tuple[RolloutState, jax.Array]:
    """The environments, with new episodes begun, and the actions to take."""
    key = randomness.keys(state.key, state.iteration)
    learning = state.iteration >= self.config.warmup_iterations
    with jax.named_scope('begin'):
      rollout = self.rollout.begin(state.rollout, key.reset)
    with jax.named_scope('acting'):
      held, action = self._act(state.agent, rollout, key.act, learning)
    return rollout.replace(noise=held), action  # pyright: ignore

  def _act(
    self,
    agent: AgentState,
    rollout: RolloutState,
    key: jax.Array,
    learning: jax.Array,
  ) -> tuple[Any, jax.Array]:
    """The noise that is kept, and the policy's actions.

    During the warm-up the actions are uniform, and the noise stays.
    """
    shape = (self.config.num_envs, self.agent.action_size)

    def act():
      held = rollout.noise
      if held is None:
        drawn = jax.random.normal(key, shape)
      else:
        held = noise.advance(held, key, self.config.noise_repeat)
        drawn = held.value
      return held, self.agent.explore(agent.actor, rollout.env.obs, drawn)

    def explore():
      uniform = jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
      return rollout.noise, uniform

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
    with jax.named_scope('replay'):
      drawn = self.replay.sample(replay, key, rows, iteration)
    batch = self.layout.batch(drawn)
    if reward_stats is None:
      return batch
    scale = reward_scale.scale(reward_stats, self.config.value_limit)
    reward = batch.reward / scale
    return batch.replace(reward=reward)  # pyright: ignore

  def _learn(
    self,
    functions: Agent,
    agent: AgentState,
    reward_stats: reward_scale.ReturnStats | None,
    replay: jax.Array,
    key: jax.Array,
    iteration: jax.Array,
  ) -> tuple[AgentState, jax.Array]:
    """The updates of one iteration, and the sums of `LEARNED`."""
    names = CRITIC_METRICS + ACTOR_METRICS

    def update(carry, keys, with_actor):
      agent, sums = carry
      batches = jax.vmap(
        lambda key: self.batch(replay, reward_stats, key, iteration)
      )(keys[:, 0])
      agent, metrics = functions.update(agent, batches, keys[:, 1], with_actor)
      return self.layout.agent(agent), sums + as_vector(metrics, names)

    keys, with_actor = self.updates(key, iteration)
    delay = self.config.policy_delay
    whole = len(keys) // delay * delay
    carry = agent, jnp.zeros(len(names))
    if whole:
      carry, _ = jax.lax.scan(
        lambda carry, keys: (update(carry, keys, True), None),
        carry,
        keys[:whole].reshape(-1, delay, 2),
      )
    if whole < len(keys):
      carry = update(carry, keys[whole:], with_actor[-1])
    agent, sums = carry
    counts = {
      'updates': jnp.float32(len(keys)),
      'actor_updates': jnp.sum(with_actor, dtype=jnp.float32),
    }
    return agent, jnp.concatenate([as_vector(counts, tuple(COUNTS)), sums])

  def updating(self, iteration: jax.Array) -> jax.Array:
    """Whether an iteration has updates, `()`: every k-th after the warm-up."""
    learning = iteration >= self.config.warmup_iterations
    every = self.config.update_every
    if every == 1:
      return learning
    since = iteration - self.config.warmup_iterations + 1
    return learning & (since % every == 0)

  def updates(
    self, key: jax.Array, iteration: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """The updates of one iteration.

    Args:
      key: `randomness.keys(...).learn`.
      iteration: the iteration, one of those that have updates.

    Returns:
      Keys of each update, `(updates, 2)`: of its batch and of its noise; and
      whether the actor is updated after it, `(updates,)`. It is after every
      `policy_delay` updates, and once, at the end, after those that remain in
      iterations in which the remainders have added up to so many.
    """
    c, first = self.config, self.config.warmup_iterations
    count, delay = c.updates_per_iteration, c.policy_delay
    rest = count % delay
    # Iterations with updates since the last reset, as the optimisers count.
    times = (iteration - first + 1) // c.update_every
    times -= (self.resets.start(iteration) - first) // c.update_every
    with_actor = (jnp.arange(count) + 1) % delay == 0
    if rest:
      # No product of these overflows, as `policy_delay` is at most 10,000.
      with_actor = with_actor.at[-1].set(times % delay * rest % delay < rest)
    keys = jax.vmap(jax.random.split)(jax.random.split(key, count))
    return keys, with_actor

  def batch(
    self,
    replay: jax.Array,
    reward_stats: reward_scale.ReturnStats | None,
    key: jax.Array,
    iteration: jax.Array,
  ) -> Transition:
    """The batch of one update, drawn after an iteration's acting."""
    size = self.config.batch_size
    return self.sample(replay, reward_stats, key, size, iteration + 1)
