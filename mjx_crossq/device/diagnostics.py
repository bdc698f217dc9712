"""The diagnostics of ONE seed: what the paper plots besides returns, and more.

There are three kinds of measurement; none of them changes the agent:

    weights   norms of the Dense kernels
    a batch   gradients of both losses, activations, features, entropy
    episodes  the critic compared with the returns that the policy gets

docs/algorithm.md has the table of the series and their sources. Measurements
of a single network are in `plasticity.py`.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq import vary
from mjx_crossq.device.rollout import Rollout
from mjx_crossq.device.trainer import Trainer
from mjx_crossq.learner import plasticity, reward_scale
from mjx_crossq.learner.agent import Metrics
from mjx_crossq.learner.states import AgentState, Network, Transition

ROWS = 1024  # replay rows for activations, features and entropy
PAIRS = 1000  # state-action pairs of the Q-bias, at least
PAIRS_PER_EPISODE = 350  # the first decisions of an episode
TAIL = 0.01  # a return ends where the discount has fallen to this
SMALLEST_RETURN = 10.0  # smaller returns do not divide the bias


class Diagnostics:
  """The diagnostics of one seed.

  Attributes:
    rollout: the environments of the Q-bias.
    pairs: decisions of each of its episodes whose bias is measured.
    decisions: decisions of each of its episodes that are simulated.
  """

  def __init__(
    self, trainer: Trainer, hyper: Mapping[str, jax.Array] | None = None
  ):
    """Sizes the rollout of the Q-bias.

    Args:
      trainer: the agent, its replay and the environment.
      hyper: the hyper-parameters of this row that vary, `()` each.
    """
    c = trainer.config
    env = trainer.rollout.env
    self._config = c
    self._agent = trainer.agent.with_hyper(hyper or {})
    self._sample = trainer.sample
    episode = env.episode_length // c.action_repeat
    # All rows simulate as many decisions as the variant of largest gamma needs.
    gamma = max(variant.config.gamma for variant in vary.variants(c))
    self.pairs = min(PAIRS_PER_EPISODE, episode)
    self.decisions = max(episode, self.pairs + tail_length(gamma))
    self.rollout = Rollout(env, -(-PAIRS // self.pairs), c.action_repeat)

  def diagnose(
    self,
    agent: AgentState,
    reward_stats: reward_scale.ReturnStats | None,
    replay: jax.Array,
    iteration: jax.Array,
    key: jax.Array,
  ) -> Metrics:
    """Every diagnostic.

    Args:
      agent: the agent.
      reward_stats: what its rewards are scaled by, or None.
      replay: `(replay_rows, row_size)`.
      iteration: iterations done, at least 1.
      key: randomness of the batches, the actions and the episodes.

    Returns:
      Scalars by name; those of the critic are means over the ensemble. Also the
      features of `activations`, of which the host computes the ranks.
    """
    key_batch, key_grads, key_rows, key_sample, key_bias = jax.random.split(
      key, 5
    )
    batch = self._sample(
      replay, reward_stats, key_batch, self._config.batch_size, iteration
    )
    rows = self._sample(replay, reward_stats, key_rows, ROWS, iteration)
    scale = reward_scale.scale(reward_stats, self._config.value_limit)
    return {
      **self.q_bias(agent, key_bias, scale),
      **self.gradients(agent, batch, key_grads),
      **self.activations(agent, rows),
      'entropy': self.entropy(agent.actor.network, rows.obs, key_sample),
    }

  def gradients(
    self, agent: AgentState, batch: Transition, key: jax.Array
  ) -> Metrics:
    """Norms of weights and gradients, and effective learning rates.

    The gradients are those of an update on this batch, before the optimiser.

    Args:
      agent: the agent.
      batch: `batch_size` transitions.
      key: as `Agent.update` takes it.
    """
    key_critic, key_actor = jax.random.split(key)
    actor, critic = agent.actor, agent.critic.network
    next_action, next_log_prob = self._agent.sample(
      actor.network, batch.next_obs, key_critic
    )
    critic_grads, _ = jax.grad(self._agent.critic_loss, has_aux=True)(
      critic.params, agent, batch, next_action, next_log_prob
    )
    actor_grads, _ = jax.grad(self._agent.actor_loss, has_aux=True)(
      actor.network.params, actor, critic, batch, key_actor
    )
    found = plasticity.over_critics(
      plasticity.network_norms, critic.params, critic_grads
    )
    of_actor = plasticity.network_norms(actor.network.params, actor_grads)
    totals = {name: x for name, x in of_actor.items() if '/' not in name}
    return _prefixed('critic', found) | _prefixed('actor', totals)

  def activations(self, agent: AgentState, rows: Transition) -> Metrics:
    """Dormant units and features, in eval mode on replay rows.

    Args:
      agent: the agent.
      rows: transitions.

    Returns:
      `critic_dormant` and `actor_dormant`, `()`; `critic_features` and
      `actor_features`, `(networks, rows, units)`, see `with_ranks`.
    """
    critic, critic_features = plasticity.hidden(
      self._agent.critic, agent.critic.network, rows.obs, rows.action
    )
    actor, actor_features = plasticity.hidden(
      self._agent.actor, agent.actor.network, rows.obs
    )
    return {
      'critic_dormant': plasticity.over_critics(
        plasticity.dormant_share, critic
      ),
      'actor_dormant': plasticity.dormant_share(actor),
      'critic_features': critic_features,
      'actor_features': actor_features[None],
    }

  def entropy(
    self, actor: Network, obs: jax.Array, key: jax.Array
  ) -> jax.Array:
    """Mean entropy of the policy in nats, one sampled action a row, `()`."""
    return -jnp.mean(self._agent.sample(actor, obs, key)[1])

  def q_bias(
    self, agent: AgentState, key: jax.Array, scale: jax.Array | float = 1.0
  ) -> Metrics:
    """The critic's error against Monte Carlo returns of the current policy.

    The policy acts as in training, in new episodes. For the first `pairs`
    decisions of each, the mean of the critics in eval mode is compared with the
    discounted return from there on, with the entropies that follow
    (`soft_returns`).

    A true termination ends the return and the pairs of its episode (so that
    there may be fewer than `PAIRS`). The time limit does not: the critic is
    trained to look past it, so the simulation goes on until `TAIL` is left of
    the last pair's discount. CrossQ's code cuts returns at the limit. At its
    action repeat of 1 that makes no difference (.99^650 = .0015 is left there),
    but at 2 the last pair's return would lack 22 % and at 4 nearly everything,
    and an exact critic would seem too high. A bootstrap at the limit would
    compare the critic with itself.

    Args:
      agent: the agent.
      key: randomness of the initial states and the actions.
      scale: the number that the agent's rewards are divided by, `()`; the
        bias is in the units of the unscaled rewards.

    Returns:
      Mean and standard deviation of the normalised bias over the pairs.
    """
    actor, critic = agent.actor.network, agent.critic.network

    def act(obs, key):
      action, log_prob = self._agent.sample(actor, obs, key)
      q = self._agent.q_values(critic, obs, action)
      return action, (jnp.mean(q, axis=0), log_prob)

    (q, log_prob), reward, taken, mask = self.rollout.trajectories(
      act, key, self.decisions
    )
    alpha = jnp.exp(agent.actor.log_alpha)
    returns = soft_returns(
      reward / scale, log_prob, mask, self._agent.hyper.gamma, alpha
    )
    q, returns, taken = (x[: self.pairs] for x in (q, returns, taken))
    mean, std = normalized_bias(scale * q, scale * returns, taken)
    return {'q_bias_mean': mean, 'q_bias_std': std}


def with_ranks(found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Replaces the features among diagnostics by their mean rank.

  The host computes the rank, because the program would call LAPACK on a CPU,
  whose threads contend with XLA's.

  Args:
    found: as `diagnose` returns it, with any leading axes.
  """
  return {
    name.replace('_features', '_feature_rank'): (
      np.mean(plasticity.feature_rank(x), axis=-1)
      if name.endswith('_features')
      else x
    )
    for name, x in found.items()
  }


# ----------------------------------------------------------------- episodes


def tail_length(gamma: float) -> int:
  """Decisions until the discount is `TAIL`; 0 where it never falls."""
  if not 0 < gamma < 1:
    return 0
  return math.ceil(math.log(TAIL) / math.log(gamma))


def soft_returns(
  reward: jax.Array,
  log_prob: jax.Array,
  mask: jax.Array,
  gamma: float | jax.Array,
  alpha: jax.Array,
) -> jax.Array:
  """Discounted returns with the entropies of the FOLLOWING decisions.

  `R_t = r_t + gamma * mask_t * (R_{t+1} - alpha * log pi(a_{t+1}|s_{t+1}))`,
  which is the value that an exact critic of the policy has at `(s_t, a_t)`.

  Args:
    reward: `(decisions, ...)`.
    log_prob: log densities of the actions, `(decisions, ...)`.
    mask: 0 where a decision led to a true termination, `(decisions, ...)`.
    gamma: discount per decision.
    alpha: temperature, `()`.

  Returns:
    Returns, `(decisions, ...)`; that of the last decision is its reward.
  """

  def step(value, decision):
    reward, log_prob, mask = decision
    total = reward + gamma * mask * value
    return total - alpha * log_prob, total

  after_the_end = jnp.zeros_like(reward[0])
  decisions = (reward, log_prob, mask)
  return jax.lax.scan(step, after_the_end, decisions, reverse=True)[1]


def normalized_bias(
  q: jax.Array, returns: jax.Array, weight: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Mean and standard deviation of `(Q - R) / max(|R|, 10)`.

  Args:
    q: values of the critic.
    returns: the returns, of the same shape.
    weight: 1 for a pair that counts, else 0, of the same shape.
  """
  bias = (q - returns) / jnp.maximum(jnp.abs(returns), SMALLEST_RETURN)
  mean = jnp.average(bias, weights=weight)
  return mean, jnp.sqrt(jnp.average((bias - mean) ** 2, weights=weight))


def _prefixed(network: str, metrics: Metrics) -> Metrics:
  return {f'{network}_{name}': value for name, value in metrics.items()}
