"""Critic ensemble and actor: Dense -> ReLU -> normalisation blocks.

Source: arXiv 2502.07523 v2, Table 1, and CrossQ (ICLR 2024) for Batch Renorm.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mjx_crossq import weight_norm
from mjx_crossq.config import Config


class Dense(nn.Module):
  """A Dense layer that declares whether its units are normalised.

  Attributes:
    units: outputs.
    normalized: keep each unit's weight vector at norm 1 (`weight_norm`).
    kernel_init: initialiser of the kernel; the bias starts at 0.
  """

  units: int
  normalized: bool
  kernel_init: Any

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `(rows, inputs)` to `(rows, units)`."""
    kind = weight_norm.UnitAffine if self.normalized else weight_norm.Affine

    def init(key):
      kernel = self.kernel_init(key, (x.shape[-1], self.units), jnp.float32)
      return kind(kernel=kernel, bias=jnp.zeros(self.units))

    layer = self.param('weights', init)
    return x @ layer.kernel + layer.bias


class BatchRenorm(nn.Module):
  """Batch Renormalisation (arXiv 1702.03275) as CrossQ uses it.

  In train mode the batch statistics are corrected towards the running ones
  by `r` and `d`, which carry no gradient. The first `warmup` train-mode calls
  are plain batch normalisation.

  Attributes:
    momentum: decay of the running statistics.
    eps: added to the variance.
    warmup: train-mode calls before the correction starts.
    r_max: the scale correction is clipped to [1 / r_max, r_max].
    d_max: the shift correction is clipped to [-d_max, d_max].
  """

  momentum: float
  eps: float
  warmup: int
  r_max: float
  d_max: float

  @nn.compact
  def __call__(self, x: jax.Array, use_running_average: bool) -> jax.Array:
    """Normalises `(rows, features)` over the rows."""
    features = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, features)
    bias = self.param('bias', nn.initializers.zeros, features)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
    running_var = self.variable('batch_stats', 'var', jnp.ones, features)
    steps = self.variable('batch_stats', 'steps', jnp.zeros, (), jnp.int32)

    if use_running_average:
      mean, var = running_mean.value, running_var.value
    else:
      mean, var = jnp.mean(x, axis=0), jnp.var(x, axis=0)
      batch_mean, batch_var = mean, var
      running_std = jnp.sqrt(running_var.value + self.eps)
      r = jnp.clip(
        jnp.sqrt(var + self.eps) / running_std, 1 / self.r_max, self.r_max
      )
      d = jnp.clip(
        (mean - running_mean.value) / running_std, -self.d_max, self.d_max
      )
      warm = steps.value >= self.warmup
      r = jax.lax.stop_gradient(jnp.where(warm, r, 1.0))
      d = jax.lax.stop_gradient(jnp.where(warm, d, 0.0))
      mean = mean - d * _sqrt(var) / r
      var = var / r**2
      if not self.is_initializing():
        m = self.momentum
        running_mean.value = m * running_mean.value + (1 - m) * batch_mean
        running_var.value = m * running_var.value + (1 - m) * batch_var
        steps.value += 1
    return (x - mean) * jax.lax.rsqrt(var + self.eps) * scale + bias


def _sqrt(x: jax.Array) -> jax.Array:
  """Square root with gradient 0 at 0.

  A unit that ReLU silences on the whole batch has variance 0, where the
  gradient of sqrt is infinite and would turn the network into NaN.
  """
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


class MLP(nn.Module):
  """Normalised input, hidden blocks, and one Dense layer per head.

  Attributes:
    config: the source of every setting but the two below.
    width: units of a hidden layer.
    layers: hidden layers.
    heads: (name, outputs, gain of the orthogonal initialiser) of each head.
  """

  config: Config
  width: int
  layers: int
  heads: tuple[tuple[str, int, float], ...]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
    """Maps `(rows, inputs)` to a dict of `(rows, outputs)` for each head.

    Args:
      x: the input.
      train: normalise by the batch's statistics and move the running ones
        (collection `batch_stats`); otherwise normalise by the running ones.
    """
    x = self._normalize(x, train)
    for _ in range(self.layers):
      x = Dense(self.width, self.config.weight_norm, self._init(2**0.5))(x)
      x = self._normalize(nn.relu(x), train)
    return {
      name: Dense(outputs, False, self._init(gain), name=name)(x)
      for name, outputs, gain in self.heads
    }

  def _init(self, gain: float) -> Any:
    if self.config.initializer == 'orthogonal':
      return nn.initializers.orthogonal(gain)
    return nn.initializers.lecun_normal()

  def _normalize(self, x: jax.Array, train: bool) -> jax.Array:
    c = self.config
    if c.normalization == 'none':
      return x
    if c.normalization == 'batch_renorm':
      return BatchRenorm(
        c.bn_momentum,
        c.bn_eps,
        c.renorm_warmup,
        c.renorm_r_max,
        c.renorm_d_max,
      )(x, not train)
    # The two-pass variance: E[x^2] - E[x]^2 cancels in float32 where a
    # feature's mean is large beside its spread.
    return nn.BatchNorm(
      use_running_average=not train,
      momentum=c.bn_momentum,
      epsilon=c.bn_eps,
      use_fast_variance=False,
    )(x)


class Critic(nn.Module):
  """An ensemble of Q-functions, one MLP each, with statistics of their own."""

  config: Config

  @nn.compact
  def __call__(
    self, obs: jax.Array, action: jax.Array, train: bool
  ) -> jax.Array:
    """Q-values `(num_critics, rows)` of `(rows, obs)` and `(rows, actions)`."""
    c = self.config
    ensemble = nn.vmap(
      MLP,
      variable_axes={'params': 0, 'batch_stats': 0},
      split_rngs={'params': True},
      in_axes=None,  # pyright: ignore[reportArgumentType]
      axis_size=c.num_critics,
    )(c, c.critic_width, c.critic_layers, (('q', 1, 2**0.5),))
    x = jnp.concatenate([obs, action], axis=-1)
    return ensemble(x, train)['q'][..., 0]


class Actor(nn.Module):
  """The policy: mean and clipped log std of a Gaussian before tanh."""

  config: Config
  action_size: int

  @nn.compact
  def __call__(
    self, obs: jax.Array, train: bool
  ) -> tuple[jax.Array, jax.Array]:
    """Mean and log std, each `(rows, actions)`, of `(rows, obs)`."""
    c = self.config
    heads = (
      ('mean', self.action_size, 2**0.5),
      ('log_std', self.action_size, 1.0),
    )
    out = MLP(c, c.actor_width, c.actor_layers, heads)(obs, train)
    return out['mean'], jnp.clip(out['log_std'], c.log_std_min, c.log_std_max)
