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

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mjx_crossq.config import Config
from mjx_crossq.learner import (
  branches,
  distributions,
  hyper,
  networks,
  optimism,
  optimizers,
  values,
)
from mjx_crossq.learner.states import (
  ActorState,
  AgentState,
  CriticState,
  Network,
  Transition,
)

Metrics = dict[str, jax.Array]

CRITIC_METRICS = ('critic_loss', 'q')
ACTOR_METRICS = ('actor_loss', 'entropy', 'alpha')


class Agent:
  """The functions of the method, for the sizes of one task.

  Attributes:
    config: the settings.
    observation_size: length of an observation.
    action_size: length of an action.
    hyper: the settings that may differ between agents of one program.
    sees: the parts of an observation that actor and critic see.
  """

  def __init__(
    self,
    config: Config,
    observation_size: int,
    action_size: int,
    varied: Mapping[str, jax.Array] | None = None,
    sees: networks.Sees = networks.EVERYTHING,
  ):
    """Stores its arguments; nothing is computed.

    Args:
      config: the settings.
      observation_size: length of an observation.
      action_size: length of an action.
      varied: values `()` in place of the configuration's, by the names of
        `hyper.Hyper`; None for none.
      sees: the parts of an observation that actor and critic see.
    """
    self.config = config
    self.observation_size = observation_size
    self.action_size = action_size
    self.sees = sees
    self.hyper = hyper.of(config)._replace(**varied or {})

  # ------------------------------------------------------------------ parts

  def with_hyper(self, varied: Mapping[str, jax.Array]) -> 'Agent':
    """An agent of these sizes with other hyper-parameters, `()` each."""
    if not varied:
      return self
    sizes = self.observation_size, self.action_size
    return Agent(self.config, *sizes, varied, self.sees)

  @functools.cached_property
  def actor(self) -> networks.Actor:
    """The policy network."""
    return networks.Actor(self.config, self.action_size, self.sees.actor)

  @functools.cached_property
  def critic(self) -> networks.Critic:
    """The critic ensemble."""
    return networks.Critic(self.config, self.sees.critic)

  @functools.cached_property
  def values(self) -> values.Values:
    """How the critic's outputs are read: as a number or a distribution."""
    return values.of(self.config)

  @functools.cached_property
  def explorer(self) -> optimism.Explorer:
    """The optimistic actor that collects data, with `config.optimism`."""
    return optimism.Explorer(self.config, self.action_size, self.hyper)

  @property
  def actor_optimizer(self) -> optax.GradientTransformation:
    """AdamW with decay on what weight normalisation leaves free."""
    c, h = self.config, self.hyper
    return optimizers.network_optimizer(c, h, h.actor_lr, c.policy_delay)

  @property
  def critic_optimizer(self) -> optax.GradientTransformation:
    """AdamW with decay on what weight normalisation leaves free."""
    c, h = self.config, self.hyper
    return optimizers.network_optimizer(c, h, h.critic_lr, 1)

  @property
  def alpha_optimizer(self) -> optax.GradientTransformation:
    """Adam on the log temperature."""
    c = self.config
    rate = optimizers.learning_rate(c, self.hyper.alpha_lr, c.policy_delay)
    return optax.adam(rate, b1=c.alpha_b1)

  # ------------------------------------------------------------- init, act

  def init(self, key: jax.Array) -> AgentState:
    """Draws the initial parameters; hidden units start at norm 1."""
    key_actor, key_critic = jax.random.split(key)
    obs = jnp.zeros((1, self.observation_size))
    action = jnp.zeros((1, self.action_size))
    actor = networks.init(self.actor, key_actor, obs)
    critic = networks.init(self.critic, key_critic, obs, action)
    log_alpha = jnp.log(jnp.float32(self.hyper.init_alpha))
    target_params = None
    if self.config.target_network:
      target_params = jax.tree.map(jnp.copy, critic.params)
    explorer = None
    if self.config.optimism:
      size = networks.seen(obs, self.sees.actor).shape[-1]
      explorer = self.explorer.init(jax.random.fold_in(key_actor, 1), size)
    return AgentState(
      actor=ActorState(
        network=actor,
        opt_state=self.actor_optimizer.init(actor.params),
        log_alpha=log_alpha,
        alpha_opt_state=self.alpha_optimizer.init(log_alpha),
        explorer=explorer,
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

  def explore(
    self, actor: ActorState, obs: jax.Array, noise: jax.Array
  ) -> jax.Array:
    """The actions that collect data, `(rows, actions)`.

    Args:
      actor: the policy.
      obs: `(rows, observation_size)`.
      noise: standard normals, `(rows, actions)`.
    """
    (mean, log_std), _ = networks.apply(
      self.actor, actor.network, obs, train=False
    )
    if not self.config.optimism:
      return distributions.sample_and_log_prob(mean, log_std, noise)[0]
    params = actor.explorer.params
    obs = networks.seen(obs, self.sees.actor)
    return self.explorer.sample(params, obs, mean, log_std, noise)[0]

  def act_deterministic(self, actor: Network, obs: jax.Array) -> jax.Array:
    """The evaluation policy `tanh(mean)`, `(rows, actions)`."""
    (mean, _), _ = networks.apply(self.actor, actor, obs, train=False)
    return distributions.mode(mean)

  def sample(
    self, actor: Network, obs: jax.Array, key: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Action and log density of the policy in eval mode."""
    (mean, log_std), _ = networks.apply(self.actor, actor, obs, train=False)
    noise = jax.random.normal(key, mean.shape)
    return distributions.sample_and_log_prob(mean, log_std, noise)

  def q_values(
    self, critic: Network, obs: jax.Array, action: jax.Array
  ) -> jax.Array:
    """Q-values in eval mode, `(num_critics, rows)`."""
    out, _ = networks.apply(self.critic, critic, obs, action, train=False)
    return self.values.mean(out)

  # ----------------------------------------------------------------- update

  def update(
    self,
    state: AgentState,
    batches: Transition,
    keys: jax.Array,
    with_actor: jax.Array | bool,
  ) -> tuple[AgentState, Metrics]:
    """Updates of the critic, then one of actor and temperature if it is due.

    Args:
      state: the agent.
      batches: one for each update of the critic, leaves `(n, batch_size, ...)`.
      keys: `(n,)`; each is split into the noise of a' ~ pi(s') and of
        a ~ pi(s), of which the actor's update takes the last.
      with_actor: whether the actor's delayed update is due. It must not depend
        on the seed, so that under `vmap` it stays a branch.

    Returns:
      The new agent, and sums of scalar metrics over the updates
      (`ACTOR_METRICS` are 0 where the actor was not updated).
    """
    keys = jax.vmap(jax.random.split)(keys)
    # The actor is the same for all of them.
    actions = jax.vmap(self.sample, (None, 0, 0))(
      state.actor.network, batches.next_obs, keys[:, 0]
    )

    def update_critic(index, carry):
      critic, sums = carry
      before = state.replace(critic=critic)  # pyright: ignore
      batch, *action = jax.tree.map(lambda x: x[index], (batches, *actions))
      critic, metrics = self.update_critic(before, batch, *action)
      return critic, sums + as_vector(metrics, CRITIC_METRICS)

    def update_actor(before):
      last = jax.tree.map(lambda x: x[-1], batches)
      actor, metrics = self.update_actor(
        before[0], critic.network, last, keys[-1, 1]
      )
      return actor, as_vector(metrics, ACTOR_METRICS)

    critic, of_critic = jax.lax.fori_loop(
      0,
      len(keys),
      update_critic,
      (state.critic, jnp.zeros(len(CRITIC_METRICS))),
    )
    before = state.actor, jnp.zeros(len(ACTOR_METRICS))
    if isinstance(with_actor, bool):
      actor, of_actor = update_actor(before) if with_actor else before
    else:
      actor, of_actor = branches.when(with_actor, update_actor, before)
    names, sums = CRITIC_METRICS + ACTOR_METRICS, (*of_critic, *of_actor)
    return AgentState(actor, critic), dict(zip(names, sums, strict=True))

  def critic_outputs(
    self, critic: Network, batch: Transition, next_action: jax.Array
  ) -> tuple[jax.Array, jax.Array, Any]:
    """The critics' outputs at (s, a) and (s', a') in train mode.

    The joint pass `Q([s; s'], [a; a'])` is one forward of 2B rows, so that
    both halves are normalised by the same batch statistics. Without it each
    half has its own, and the running ones are those of (s, a).

    Returns:
      Both, as `values` describes them, and the running statistics after.
    """
    if not self.config.joint_pass:
      out, moved = networks.apply(
        self.critic, critic, batch.obs, batch.action, train=True
      )
      next_out, _ = networks.apply(
        self.critic, critic, batch.next_obs, next_action, train=True
      )
      return out, next_out, moved
    obs = jnp.concatenate([batch.obs, batch.next_obs])
    action = jnp.concatenate([batch.action, next_action])
    both, moved = networks.apply(self.critic, critic, obs, action, train=True)
    out, next_out = jnp.split(both, 2, axis=1)
    return out, next_out, moved

  def critic_loss(
    self,
    params: Any,
    state: AgentState,
    batch: Transition,
    next_action: jax.Array,
    next_log_prob: jax.Array,
  ) -> tuple[jax.Array, tuple[Any, Metrics]]:
    """The joint pass, the target and the loss.

    The target network is evaluated as the online one is: in train mode, over
    the same rows. It therefore has no running statistics.

    Returns:
      The loss, and the critic's new running statistics and metrics.
    """
    batch_stats = state.critic.network.batch_stats
    online = Network(params, batch_stats)
    out, next_out, moved = self.critic_outputs(online, batch, next_action)
    if self.config.target_network:
      target = Network(state.critic.target_params, batch_stats)
      _, next_out, _ = self.critic_outputs(target, batch, next_action)

    cost = jnp.exp(state.actor.log_alpha) * next_log_prob
    discount = self.hyper.gamma * batch.mask
    y = self.values.target(next_out, batch.reward, discount, cost)
    loss = jnp.sum(self.values.loss(out, jax.lax.stop_gradient(y)))
    q = jnp.mean(self.values.mean(out))
    return loss, (moved, {'critic_loss': loss, 'q': q})

  def update_critic(
    self,
    state: AgentState,
    batch: Transition,
    next_action: jax.Array,
    next_log_prob: jax.Array,
  ) -> tuple[CriticState, Metrics]:
    """AdamW, projection, and the target's Polyak step."""
    critic = state.critic
    grads, (batch_stats, metrics) = jax.grad(self.critic_loss, has_aux=True)(
      critic.network.params, state, batch, next_action, next_log_prob
    )
    params, opt_state = optimizers.descend(
      self.critic_optimizer, grads, critic.opt_state, critic.network.params
    )
    target_params = critic.target_params
    if self.config.target_network:
      target_params = optax.incremental_update(
        params, target_params, self.hyper.tau
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

    With `actor_joint_pass` the actor's batch statistics are those of [s; s'],
    as the critic's are; only the actions at s have a loss.

    Returns:
      The loss, and the actor's new running statistics and metrics.
    """
    obs, rows = batch.obs, len(batch.obs)
    if self.config.actor_joint_pass:
      obs = jnp.concatenate([obs, batch.next_obs])
    (mean, log_std), moved = networks.apply(
      self.actor, Network(params, actor.network.batch_stats), obs, train=True
    )
    mean, log_std = mean[:rows], log_std[:rows]
    noise = jax.random.normal(key, mean.shape)
    action, log_prob = distributions.sample_and_log_prob(mean, log_std, noise)
    q = values.combine(self.q_values(critic, batch.obs, action), self.config)
    alpha = jnp.exp(actor.log_alpha)
    loss = jnp.mean(alpha * log_prob - q)
    return loss, (moved, {'actor_loss': loss, 'entropy': -jnp.mean(log_prob)})

  def update_actor(
    self, actor: ActorState, critic: Network, batch: Transition, key: jax.Array
  ) -> tuple[ActorState, Metrics]:
    """AdamW and projection of the policy, Adam of the temperature."""
    grads, (batch_stats, metrics) = jax.grad(self.actor_loss, has_aux=True)(
      actor.network.params, actor, critic, batch, key
    )
    params, opt_state = optimizers.descend(
      self.actor_optimizer, grads, actor.opt_state, actor.network.params
    )
    target_entropy = self.hyper.target_entropy * self.action_size
    # d/d(log alpha) of alpha * (entropy - target entropy)
    alpha = jnp.exp(actor.log_alpha)
    alpha_grad = alpha * (metrics['entropy'] - target_entropy)
    log_alpha, alpha_opt_state = optimizers.descend(
      self.alpha_optimizer, alpha_grad, actor.alpha_opt_state, actor.log_alpha
    )
    network = Network(params, batch_stats)
    explorer = actor.explorer
    if self.config.optimism:
      policy, _ = networks.apply(self.actor, network, batch.obs, train=False)
      explorer = self.explorer.update(
        explorer,
        networks.seen(batch.obs, self.sees.actor),
        policy,
        lambda action: networks.apply(
          self.critic, critic, batch.obs, action, train=False
        )[0],
        self.values.mean,
        jax.random.fold_in(key, 1),
      )
    actor = ActorState(network, opt_state, log_alpha, alpha_opt_state, explorer)
    return actor, metrics | {'alpha': jnp.exp(log_alpha)}


def as_vector(metrics: Metrics, names: Sequence[str]) -> jax.Array:
  """Metrics as one array, so that adding them is one operation."""
  return jnp.stack([metrics[name] for name in names])
