"""The paper on one page: CrossQ with weight normalisation.

*Scaling CrossQ with Weight Normalization* (arXiv 2506.03758) for ONE seed:
what the networks are, how they act, and what one update does. `crossq` and
`sac` are the same page with other settings (`presets.py`).

    critic  y = r + gamma * mask * (min_i Q_i(s', a') - alpha * log pi(a'|s'))
            L = sum_i mean (Q_i(s, a) - y)^2 / 2,  in ONE pass over [s; s']
    actor   L = mean(alpha * log pi(a|s) - min_i Q_i(s, a)),  every third update
    alpha   L = mean(alpha * (-log pi(a|s) - target entropy)),  with the actor
    after each optimiser step every hidden unit is projected to norm 1
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct

from mjx_crossq import distributions, networks, optimizers, weight_norm
from mjx_crossq.config import Config

Metrics = dict[str, jax.Array]

CRITIC_METRICS = ('critic_loss', 'q')
ACTOR_METRICS = ('actor_loss', 'entropy', 'alpha')


@struct.dataclass
class Transition:
  """What the agent learns from; leading axes are the batch's.

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
  """What the delayed update changes.

  Attributes:
    network: the policy.
    opt_state: its AdamW state.
    log_alpha: logarithm of the temperature, `()`.
    alpha_opt_state: the temperature's Adam state.
  """

  network: Network
  opt_state: Any
  log_alpha: jax.Array
  alpha_opt_state: Any


@struct.dataclass
class CriticState:
  """What every update changes.

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


@dataclasses.dataclass(frozen=True)
class Agent:
  """The functions of the method for one task's sizes.

  Attributes:
    config: hyper-parameters.
    observation_size: length of an observation.
    action_size: length of an action.
  """

  config: Config
  observation_size: int
  action_size: int

  # ------------------------------------------------------------------ parts

  @functools.cached_property
  def actor(self) -> networks.Actor:
    """The policy network."""
    return networks.Actor(self.config, self.action_size)

  @functools.cached_property
  def critic(self) -> networks.Critic:
    """The critic ensemble."""
    return networks.Critic(self.config)

  @functools.cached_property
  def actor_optimizer(self) -> optax.GradientTransformation:
    """AdamW with decay on what weight normalisation leaves free."""
    return optimizers.network_optimizer(self.config, self.config.actor_lr)

  @functools.cached_property
  def critic_optimizer(self) -> optax.GradientTransformation:
    """AdamW with decay on what weight normalisation leaves free."""
    return optimizers.network_optimizer(self.config, self.config.critic_lr)

  @functools.cached_property
  def alpha_optimizer(self) -> optax.GradientTransformation:
    """Adam on the log temperature."""
    return optax.adam(self.config.alpha_lr, b1=self.config.alpha_b1)

  # ------------------------------------------------------------- init, act

  def init(self, key: jax.Array) -> AgentState:
    """Draws the initial parameters; hidden units start at norm 1."""
    key_actor, key_critic = jax.random.split(key)
    obs = jnp.zeros((1, self.observation_size))
    action = jnp.zeros((1, self.action_size))
    actor = _init_network(self.actor, key_actor, obs)
    critic = _init_network(self.critic, key_critic, obs, action)
    log_alpha = jnp.log(jnp.float32(self.config.init_alpha))
    target_params = None
    if self.config.target_network:
      target_params = jax.tree.map(jnp.copy, critic.params)
    return AgentState(
      actor=ActorState(
        network=actor,
        opt_state=self.actor_optimizer.init(actor.params),
        log_alpha=log_alpha,
        alpha_opt_state=self.alpha_optimizer.init(log_alpha),
      ),
      critic=CriticState(
        network=critic,
        opt_state=self.critic_optimizer.init(critic.params),
        target_params=target_params,
      ),
    )

  def act(self, actor: Network, obs: jax.Array, key: jax.Array) -> jax.Array:
    """Samples actions `(rows, actions)` in (-1, 1) for `(rows, obs)`."""
    return self.sample(actor, obs, key)[0]

  def act_deterministic(self, actor: Network, obs: jax.Array) -> jax.Array:
    """The evaluation policy `tanh(mean)`, `(rows, actions)`."""
    (mean, _), _ = _apply(self.actor, actor, obs, train=False)
    return distributions.mode(mean)

  def sample(
    self, actor: Network, obs: jax.Array, key: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Action and log density of the policy in eval mode."""
    (mean, log_std), _ = _apply(self.actor, actor, obs, train=False)
    noise = jax.random.normal(key, mean.shape)
    return distributions.sample_and_log_prob(mean, log_std, noise)

  def q_values(
    self, critic: Network, obs: jax.Array, action: jax.Array
  ) -> jax.Array:
    """Q-values in eval mode, `(num_critics, rows)`."""
    return _apply(self.critic, critic, obs, action, train=False)[0]

  # ----------------------------------------------------------------- update

  def update(
    self,
    state: AgentState,
    batch: Transition,
    key: jax.Array,
    with_actor: jax.Array | bool,
  ) -> tuple[AgentState, Metrics]:
    """One update: the critic and, when it is due, actor and temperature.

    Args:
      state: the agent.
      batch: `batch_size` transitions.
      key: split into the noise of a' ~ pi(s') and of a ~ pi(s).
      with_actor: whether the actor's delayed update is due; must not depend
        on the seed, so that it is skipped and not computed in vain.

    Returns:
      The new agent, and scalar metrics (`ACTOR_METRICS` are 0 where the
      actor was not updated).
    """
    key_critic, key_actor = jax.random.split(key)
    critic, metrics = self.update_critic(state, batch, key_critic)

    def run(actor):
      return self.update_actor(actor, critic.network, batch, key_actor)

    def skip(actor):
      return actor, {name: jnp.float32(0) for name in ACTOR_METRICS}

    actor, actor_metrics = jax.lax.cond(with_actor, run, skip, state.actor)
    return AgentState(actor, critic), metrics | actor_metrics

  def train_q_values(
    self, critic: Network, batch: Transition, next_action: jax.Array
  ) -> tuple[jax.Array, jax.Array, Any]:
    """Q(s, a) and Q(s', a') in train mode.

    The joint pass `Q([s; s'], [a; a'])` is one forward of 2B rows, so that
    both halves are normalised by the same batch statistics. Without it each
    half has its own, and the running ones are those of (s, a).

    Returns:
      Both, `(num_critics, B)`, and the running statistics after the pass.
    """
    if not self.config.joint_pass:
      q, moved = _apply(
        self.critic, critic, batch.obs, batch.action, train=True
      )
      next_q, _ = _apply(
        self.critic, critic, batch.next_obs, next_action, train=True
      )
      return q, next_q, moved
    obs = jnp.concatenate([batch.obs, batch.next_obs])
    action = jnp.concatenate([batch.action, next_action])
    q, moved = _apply(self.critic, critic, obs, action, train=True)
    q, next_q = jnp.split(q, 2, axis=1)
    return q, next_q, moved

  def critic_loss(
    self,
    params: Any,
    state: AgentState,
    batch: Transition,
    next_action: jax.Array,
    next_log_prob: jax.Array,
  ) -> tuple[jax.Array, tuple[Any, Metrics]]:
    """The joint pass, the target and the loss.

    The target network is evaluated as the online one is, over the same rows
    and with its own batch's statistics; it has no running ones.

    Returns:
      The loss, and the critic's new running statistics and metrics.
    """
    c = self.config
    batch_stats = state.critic.network.batch_stats
    online = Network(params, batch_stats)
    q, next_q, moved = self.train_q_values(online, batch, next_action)
    if c.target_network:
      target = Network(state.critic.target_params, batch_stats)
      _, next_q, _ = self.train_q_values(target, batch, next_action)

    alpha = jnp.exp(state.actor.log_alpha)
    next_value = jnp.min(next_q, axis=0) - alpha * next_log_prob
    y = jax.lax.stop_gradient(batch.reward + c.gamma * batch.mask * next_value)
    loss = jnp.sum(jnp.mean(0.5 * (q - y) ** 2, axis=1))
    return loss, (moved, {'critic_loss': loss, 'q': jnp.mean(q)})

  def update_critic(
    self, state: AgentState, batch: Transition, key: jax.Array
  ) -> tuple[CriticState, Metrics]:
    """AdamW, projection, and the target's Polyak step."""
    critic = state.critic
    next_action, next_log_prob = self.sample(
      state.actor.network, batch.next_obs, key
    )
    grads, (batch_stats, metrics) = jax.grad(self.critic_loss, has_aux=True)(
      critic.network.params, state, batch, next_action, next_log_prob
    )
    params, opt_state = _descend(
      self.critic_optimizer, grads, critic.opt_state, critic.network.params
    )
    target_params = critic.target_params
    if self.config.target_network:
      target_params = optax.incremental_update(
        params, target_params, self.config.tau
      )
    network = Network(params, batch_stats)
    return CriticState(network, opt_state, target_params), metrics

  def actor_loss(
    self,
    params: Any,
    actor: ActorState,
    critic: Network,
    batch: Transition,
    key: jax.Array,
  ) -> tuple[jax.Array, tuple[Any, Metrics]]:
    """Actor in train mode, critic in eval mode.

    Returns:
      The loss, and the actor's new running statistics and metrics.
    """
    (mean, log_std), moved = _apply(
      self.actor,
      Network(params, actor.network.batch_stats),
      batch.obs,
      train=True,
    )
    noise = jax.random.normal(key, mean.shape)
    action, log_prob = distributions.sample_and_log_prob(mean, log_std, noise)
    q = self.q_values(critic, batch.obs, action)
    alpha = jnp.exp(actor.log_alpha)
    loss = jnp.mean(alpha * log_prob - jnp.min(q, axis=0))
    return loss, (moved, {'actor_loss': loss, 'entropy': -jnp.mean(log_prob)})

  def update_actor(
    self, actor: ActorState, critic: Network, batch: Transition, key: jax.Array
  ) -> tuple[ActorState, Metrics]:
    """AdamW and projection of the policy, Adam of the temperature."""
    grads, (batch_stats, metrics) = jax.grad(self.actor_loss, has_aux=True)(
      actor.network.params, actor, critic, batch, key
    )
    params, opt_state = _descend(
      self.actor_optimizer, grads, actor.opt_state, actor.network.params
    )
    target_entropy = self.config.target_entropy * self.action_size
    # d/d(log alpha) of alpha * (entropy - target entropy)
    alpha = jnp.exp(actor.log_alpha)
    alpha_grad = alpha * (metrics['entropy'] - target_entropy)
    log_alpha, alpha_opt_state = _descend(
      self.alpha_optimizer, alpha_grad, actor.alpha_opt_state, actor.log_alpha
    )
    network = Network(params, batch_stats)
    actor = ActorState(network, opt_state, log_alpha, alpha_opt_state)
    return actor, metrics | {'alpha': jnp.exp(log_alpha)}


def _init_network(net: nn.Module, key: jax.Array, *args: jax.Array) -> Network:
  variables = net.init(key, *args, train=False)
  params = weight_norm.project(variables['params'])
  return Network(params, variables.get('batch_stats', {}))


def _apply(
  net: nn.Module, network: Network, *args: jax.Array, train: bool
) -> tuple[Any, Any]:
  """Output of a network, and its running statistics after the pass."""
  variables = {'params': network.params, 'batch_stats': network.batch_stats}
  if not train:
    return net.apply(variables, *args, train=False), network.batch_stats
  output, moved = net.apply(
    variables, *args, train=True, mutable=['batch_stats']
  )
  return output, moved.get('batch_stats', {})


def _descend(optimizer, grads, opt_state, params):
  """An optimiser step followed by the projection."""
  updates, opt_state = optimizer.update(grads, opt_state, params)
  return weight_norm.project(optax.apply_updates(params, updates)), opt_state
