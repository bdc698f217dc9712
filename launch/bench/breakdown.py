"""The time of each part of the training loop, and the work of its updates.

Each part is compiled as a separate program and timed for as many iterations as
the whole loop. The sum of the parts, compared with the whole, shows whether the
parts explain it.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mjx_crossq import Runner
from mjx_crossq.device.runner import SEED_AXES
from mjx_crossq.device.trainer import Trainer, TrainState
from mjx_crossq.learner import branches
from mjx_crossq.learner.states import Transition

_Part = Callable[[TrainState, jax.Array], TrainState]
PARTS = ('physics', 'acting', 'replay add', 'sampling', 'critic', 'actor')
_TINY = 1e-9
"""Makes a part's next input depend on its result, so that XLA computes it in
every iteration."""


class Parts:
  """The parts of one seed's iteration; each maps a state and a key.

  Attributes:
    trainer: the whole loop.
  """

  def __init__(self, trainer: Trainer):
    """Compiles nothing.

    Args:
      trainer: the loop.
    """
    self.trainer = trainer
    c = trainer.config
    self._actions = (c.num_envs, trainer.agent.action_size)

  def functions(self) -> dict[str, _Part]:
    """The parts by name, in the loop's order."""
    functions = (
      self._physics,
      self._acting,
      self._add,
      self._sampling,
      self._critic,
      self._actor,
    )
    return dict(zip(PARTS, functions, strict=True))

  def _physics(self, state: TrainState, key: jax.Array) -> TrainState:
    action = jax.random.uniform(key, self._actions, minval=-1.0)
    functions, iteration = self.trainer.rollout, state.iteration
    rollout = functions.begin(state.rollout, key)
    rollout, *_ = functions.step(rollout, action, iteration)
    return state.replace(rollout=rollout)  # pyright: ignore

  def _acting(self, state: TrainState, key: jax.Array) -> TrainState:
    obs = state.rollout.env.obs
    noise = jax.random.normal(key, self._actions)
    action = self.trainer.agent.explore(state.agent.actor, obs, noise)
    return _with_obs(state, obs + _TINY * jnp.sum(action))

  def _add(self, state: TrainState, key: jax.Array) -> TrainState:
    del key
    obs = state.rollout.env.obs
    rows = state.rollout.episode_return + state.iteration
    action = jnp.broadcast_to(rows[:, None], self._actions)
    added = Transition(obs, action, rows, rows, obs)
    replay = self.trainer.replay.add(state.replay, added, state.iteration)
    return state.replace(replay=replay)  # pyright: ignore

  def _sampling(self, state: TrainState, key: jax.Array) -> TrainState:
    total = self._updates(state, key, self._sampled, jnp.float32(0))
    obs = state.rollout.env.obs
    return _with_obs(state, obs + _TINY * total)

  def _sampled(self, state, total, key, index):
    del index
    batch = self.trainer.replay.sample(
      state.replay, key, self.trainer.config.batch_size, state.iteration + 1
    )
    batch = jax.lax.optimization_barrier(batch)  # so that all of it is read
    return total + jnp.sum(batch.reward)

  def _critic(self, state: TrainState, key: jax.Array) -> TrainState:
    def update(state, agent, key, index):
      batch = self.batch(index)
      return agent.replace(critic=self.update_critic(agent, batch, key)[0])

    return self._learn(state, key, update)

  def update_critic(self, agent, batch, key):
    """One update of the critic, the next actions included."""
    functions = self.trainer.agent
    actions = functions.sample(agent.actor.network, batch.next_obs, key)
    return functions.update_critic(agent, batch, *actions)

  def _actor(self, state: TrainState, key: jax.Array) -> TrainState:
    def update(state, agent, key, index):
      def run(actor):
        batch = self.batch(index)
        critic = agent.critic.network
        return self.trainer.agent.update_actor(actor, critic, batch, key)[0]

      due = index % self.trainer.config.policy_delay == 0
      return agent.replace(actor=branches.when(due, run, agent.actor))

    return self._learn(state, key, update)

  def _learn(self, state, key, update):
    agent = self._updates(state, key, update, state.agent)
    return state.replace(agent=agent)

  def _updates(self, state, key, update, carry):
    """`update(state, carry, key, index)` for each of an iteration's updates."""
    c = self.trainer.config
    updates = c.updates_per_iteration
    first = state.iteration // c.update_every * updates

    def body(carry, inputs):
      return update(state, carry, *inputs), None

    def learn(carry):
      inputs = jax.random.split(key, updates), first + jnp.arange(updates)
      return jax.lax.scan(body, carry, inputs)[0]

    if c.update_every == 1:
      return learn(carry)
    due = (state.iteration + 1) % c.update_every == 0
    return branches.when(due, learn, carry)

  def batch(self, index: jax.Array) -> Transition:
    """A batch that differs for each index, without sampling."""
    rows = jnp.arange(self.trainer.config.batch_size)[:, None] + index
    sizes = self.trainer.agent.observation_size, self._actions[1], 1
    obs, action, reward = (
      rows * (0.618 + 0.1 * jnp.arange(size)) % 1.0 for size in sizes
    )
    reward = reward[:, 0]
    return Transition(obs, action, reward, jnp.ones_like(reward), obs)


def _with_obs(state: TrainState, obs: jax.Array) -> TrainState:
  env = state.rollout.env.replace(obs=obs)
  rollout = state.rollout.replace(env=env)  # pyright: ignore
  return state.replace(rollout=rollout)  # pyright: ignore


def compile_part(runner: Runner, function: _Part) -> Any:
  """Compiles a part for all seeds as a loop that ends at a given iteration.

  Args:
    runner: of the run.
    function: the part, of one seed.

  Returns:
    A compiled function `(state, stop) -> state` that donates the state.
  """

  def loop(state: TrainState, stop: jax.Array) -> TrainState:
    def body(state):
      key = jax.random.fold_in(state.key, state.iteration)
      state = function(state, key)
      return state.replace(iteration=state.iteration + 1)  # pyright: ignore

    return jax.lax.while_loop(lambda s: s.iteration < stop, body, state)

  batched = jax.vmap(loop, in_axes=(SEED_AXES, None), out_axes=SEED_AXES)
  stop = jax.ShapeDtypeStruct((), jnp.int32)
  state = runner.abstract_state()
  return jax.jit(batched, donate_argnums=0).lower(state, stop).compile()


def work(runner: Runner) -> dict[str, float]:
  """Operations and bytes of an iteration's updates, as XLA counts them.

  Args:
    runner: of the run.

  Returns:
    'flops' before optimisation, and 'bytes' that the compiled operations read
    and write, for all seeds.
  """
  c, parts = runner.config, Parts(runner.trainer)
  agent = runner.trainer.agent
  flops = moved = 0.0

  def critic(state: TrainState, key: jax.Array) -> Any:
    batch = parts.batch(state.iteration)
    return parts.update_critic(state.agent, batch, key)

  def actor(state: TrainState, key: jax.Array) -> Any:
    batch = parts.batch(state.iteration)
    critic = state.agent.critic.network
    return agent.update_actor(state.agent.actor, critic, batch, key)

  state = runner.abstract_state()
  for function, every in ((critic, 1), (actor, c.policy_delay)):
    batched = jax.vmap(function, in_axes=(SEED_AXES, 0))
    lowered = jax.jit(batched).lower(state, state.key)
    count = c.updates_per_iteration / c.update_every / every
    flops += count * _cost(lowered, 'flops')
    moved += count * _cost(lowered.compile(), 'bytes accessed')
  return {'flops': flops, 'bytes': moved}


def _cost(program: Any, name: str) -> float:
  costs = program.cost_analysis()
  costs = costs[0] if isinstance(costs, list) else costs
  return float((costs or {}).get(name, 0.0))
