"""BRO's second actor, which collects the data (arXiv 2405.16158).

It shifts the policy's mean towards an upper bound of Q. A penalty on the KL
divergence keeps it near the policy; two learned multipliers hold the divergence
at its target:

    mean' = mean + shift(s, mean),   std' = explore_std * std
    L     = mean(-Q_upper(s, a')) + kl_weight * mean KL
            with a' ~ tanh N(mean', std')
    Q_upper = mean of the critics + optimism * half their range
    KL    = sum shift^2 / (2 std^2), of two Gaussians with the policy's std
    optimism falls and kl_weight grows where KL / |A| is above `kl_target`

The constants are those of `naumix/BiggerRegularizedOptimistic`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from mjx_crossq.config import Config
from mjx_crossq.learner import networks, optimizers, weight_norm
from mjx_crossq.learner.hyper import Hyper

# The multipliers optimism and kl_weight: bounds of their logarithms, their
# first values, and the Adam that learns them.
_LOG_LOW, _LOG_HIGH = -10.0, 7.5
_INITIAL = np.array([1.0, 0.25])
_LR, _B1 = 3e-5, 0.5


@struct.dataclass
class ExplorerState:
  """What the second actor learns.

  Attributes:
    params: of the network of the shift.
    opt_state: its AdamW state.
    raw: the multipliers before `multipliers` bounds them, `(2,)`.
    raw_opt_state: their Adam state.
  """

  params: Any
  opt_state: Any
  raw: Any
  raw_opt_state: Any


def multipliers(raw: jax.Array) -> jax.Array:
  """Optimism and KL weight, `(2,)`, within fixed bounds."""
  share = 0.5 * (1 + jnp.tanh(raw))
  return jnp.exp(_LOG_LOW + (_LOG_HIGH - _LOG_LOW) * share)


@dataclasses.dataclass(frozen=True, eq=False)
class Explorer:
  """The functions of the second actor.

  Attributes:
    config: the settings.
    action_size: length of an action.
    hyper: learning rate and weight decay of the network.
  """

  config: Config
  action_size: int
  hyper: Hyper

  @property
  def _net(self) -> networks.MLP:
    c = self.config
    heads = (('shift', self.action_size, 0.01),)
    return networks.MLP(
      c, c.actor_width, c.actor_layers, heads, head_bias=False
    )

  @property
  def _optimizer(self) -> optax.GradientTransformation:
    c = self.config
    return optimizers.network_optimizer(
      c, self.hyper, self.hyper.actor_lr, c.policy_delay
    )

  @property
  def _raw_optimizer(self) -> optax.GradientTransformation:
    return optax.adam(_LR, b1=_B1)

  def init(self, key: jax.Array, observation_size: int) -> ExplorerState:
    """Draws the parameters; the shift starts near 0."""
    x = jnp.zeros((1, observation_size + self.action_size))
    params = weight_norm.project(self._net.init(key, x, train=False)['params'])
    share = (np.log(_INITIAL) - _LOG_LOW) / (_LOG_HIGH - _LOG_LOW)
    raw = jnp.asarray(np.arctanh(2 * share - 1), jnp.float32)
    return ExplorerState(
      params, self._optimizer.init(params), raw, self._raw_optimizer.init(raw)
    )

  def shift(self, params: Any, obs: jax.Array, mean: jax.Array) -> jax.Array:
    """What is added to the policy's mean before tanh, `(rows, actions)`."""
    x = jnp.concatenate([obs, mean], axis=-1)
    out = self._net.apply({'params': params}, x, train=False)
    return out['shift']  # pyright: ignore

  def sample(
    self,
    params: Any,
    obs: jax.Array,
    mean: jax.Array,
    log_std: jax.Array,
    noise: jax.Array,
  ) -> tuple[jax.Array, jax.Array]:
    """Actions, `(rows, actions)`, and the shift.

    Args:
      params: of the shift.
      obs: `(rows, observations)`.
      mean: of the policy before tanh, `(rows, actions)`.
      log_std: of the policy, `(rows, actions)`.
      noise: standard normals, `(rows, actions)`.
    """
    shift = self.shift(params, obs, mean)
    std = self.config.explore_std * jnp.exp(log_std)
    return jnp.tanh(mean + shift + std * noise), shift

  def update(
    self,
    state: ExplorerState,
    obs: jax.Array,
    policy: tuple[jax.Array, jax.Array],
    critics: Callable[[jax.Array], jax.Array],
    q_mean: Callable[[jax.Array], jax.Array],
    key: jax.Array,
  ) -> ExplorerState:
    """AdamW of the shift, Adam of the multipliers.

    Args:
      state: before.
      obs: the batch's s, `(B, observations)`.
      policy: mean and log std at s, of the updated policy.
      critics: the critics' outputs at (s, a) as a function of a.
      q_mean: Q of outputs, `values.Values.mean`.
      key: randomness.
    """
    mean, log_std = policy
    optimism, kl_weight = multipliers(state.raw)
    noise = jax.random.normal(key, mean.shape)

    def loss(params):
      action, shift = self.sample(params, obs, mean, log_std, noise)
      out = critics(action)
      half_range = (jnp.max(out, axis=0) - jnp.min(out, axis=0)) / 2
      upper = jnp.mean(out, axis=0) + optimism * half_range
      divergence = shift**2 * jnp.exp(-2 * log_std) / 2
      kl = jnp.mean(jnp.sum(divergence, axis=-1))
      return kl_weight * kl - jnp.mean(q_mean(upper[None])), kl

    grads, kl = jax.grad(loss, has_aux=True)(state.params)
    updates, opt_state = self._optimizer.update(
      grads, state.opt_state, state.params
    )
    params = weight_norm.project(optax.apply_updates(state.params, updates))

    excess = kl / self.action_size - self.config.kl_target
    direction = jnp.array([1.0, -1.0]) * excess
    raw_grad = jax.grad(lambda raw: jnp.sum(multipliers(raw) * direction))(
      state.raw
    )
    updates, raw_opt_state = self._raw_optimizer.update(
      raw_grad, state.raw_opt_state
    )
    raw = optax.apply_updates(state.raw, updates)
    return ExplorerState(params, opt_state, raw, raw_opt_state)
