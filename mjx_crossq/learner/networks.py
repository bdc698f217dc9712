"""Critic ensemble and actor: Dense -> ReLU -> normalisation blocks.

Source: arXiv 2502.07523 v2, Table 1, and CrossQ (ICLR 2024) for Batch Renorm.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mjx_crossq.config import Config
from mjx_crossq.learner.layers import BatchNorm, Dense, LayerNorm, Renorm
from mjx_crossq.learner.weight_norm import (
  Affine,
  SoftAffine,
  UnitAffine,
  UnitKernel,
)

INTERMEDIATES = 'intermediates'


class MLP(nn.Module):
  """Normalised input, hidden blocks, and one Dense layer per head.

  Sows for `diagnostics` what a caller may ask for by `mutable=INTERMEDIATES`:
  `activations`, of each hidden layer, and `features`, what the heads see.

  Attributes:
    config: the source of every setting but those below.
    width: units of a hidden layer.
    layers: hidden layers.
    heads: (name, outputs, gain of the orthogonal initialiser) of each head.
    head_bias: whether the heads have biases.
  """

  config: Config
  width: int
  layers: int
  heads: tuple[tuple[str, int, float], ...]
  head_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> dict[str, jax.Array]:
    """Maps `(rows, inputs)` to a dict of `(rows, outputs)` for each head.

    Args:
      x: the input.
      train: normalise by the batch's statistics and move the running ones
        (collection `batch_stats`); otherwise normalise by the running ones.
    """
    if self.config.normalization != 'layer':
      # A layer norm of the input would mix observations' units.
      x = self._normalize(x, train)
    if self.config.block == 'residual':
      x = self._residual(x, train)
    else:
      for _ in range(self.layers):
        x = self._hidden(x, train)
    self.sow(INTERMEDIATES, 'features', x)
    kind = UnitKernel if self.config.weight_norm_outputs else Affine
    return {
      name: self._dense(outputs, kind, gain, name)(x)
      for name, outputs, gain in self.heads
    }

  def _hidden(self, x: jax.Array, train: bool) -> jax.Array:
    dense = self._dense(self.width, self._hidden_kind(), 2**0.5)
    if self.config.block == 'norm_relu':
      return self._relu(self._normalize(dense(x), train))
    return self._normalize(self._relu(dense(x)), train)

  def _residual(self, x: jax.Array, train: bool) -> jax.Array:
    """BRO's network: a hidden layer, then blocks of two with a skip."""

    def norm_dense(x):
      dense = self._dense(self.width, self._hidden_kind(), 2**0.5)
      return self._normalize(dense(x), train)

    x = self._relu(norm_dense(x))
    for _ in range(self.layers):
      x += norm_dense(self._relu(norm_dense(x)))
    return x

  def _relu(self, x: jax.Array) -> jax.Array:
    x = nn.relu(x)
    self.sow(INTERMEDIATES, 'activations', x)
    return x

  def _hidden_kind(self) -> type:
    if self.config.weight_norm:
      return UnitAffine
    return SoftAffine if self.config.soft_l2 else Affine

  def _dense(
    self, units: int, kind: type, gain: float, name: str | None = None
  ) -> Dense:
    init = nn.initializers.lecun_normal()
    if self.config.initializer == 'orthogonal':
      init = nn.initializers.orthogonal(gain)
    precision = self.config.matmul_precision
    bias = self.config.block != 'norm_relu'
    if name is not None:
      bias = self.head_bias
    return Dense(units, kind, init, precision, bias, name=name)

  def _normalize(self, x: jax.Array, train: bool) -> jax.Array:
    c = self.config
    if c.normalization == 'none':
      return x
    if c.normalization == 'layer':
      return LayerNorm()(x)
    renorm = None
    if c.normalization == 'batch_renorm':
      renorm = Renorm(c.renorm_warmup, c.renorm_r_max, c.renorm_d_max)
    return BatchNorm(c.bn_momentum, c.bn_eps, renorm)(x, train)


class Critic(nn.Module):
  """An ensemble of Q-functions, one MLP each, with statistics of their own."""

  config: Config

  @nn.compact
  def __call__(
    self, obs: jax.Array, action: jax.Array, train: bool
  ) -> jax.Array:
    """Outputs of `(rows, obs)` and `(rows, actions)`.

    They are Q, `(num_critics, rows)`, of scalar critics, else `(num_critics,
    rows, atoms)`; `values` says what they mean.
    """
    c = self.config
    ensemble = nn.vmap(
      MLP,
      variable_axes={'params': 0, 'batch_stats': 0, INTERMEDIATES: 0},
      split_rngs={'params': True},
      in_axes=None,  # pyright: ignore[reportArgumentType]
      axis_size=c.num_critics,
    )(c, c.critic_width, c.critic_layers, (('q', c.atoms, 2**0.5),))
    x = jnp.concatenate([obs, action], axis=-1)
    q = ensemble(x, train)['q']
    return q[..., 0] if c.critic_value == 'scalar' else q


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
    low, high = c.log_std_min, c.log_std_max
    if c.log_std_bound == 'tanh':
      share = 0.5 * (1 + jnp.tanh(out['log_std']))
      return out['mean'], low + (high - low) * share
    return out['mean'], jnp.clip(out['log_std'], low, high)
