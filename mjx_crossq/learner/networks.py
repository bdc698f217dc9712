"""Critic ensemble and actor: Dense -> ReLU -> normalisation blocks.

Source: arXiv 2502.07523 v2, Table 1, and CrossQ (ICLR 2024) for Batch Renorm.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mjx_crossq.config import Config
from mjx_crossq.learner import orthogonal
from mjx_crossq.learner.batch_norm import BatchNorm, Renorm
from mjx_crossq.learner.layers import (
  Dense,
  LayerNorm,
  RMSNorm,
  product,
  shift_relu,
)
from mjx_crossq.learner.states import Network
from mjx_crossq.learner.weight_norm import (
  Affine,
  SoftAffine,
  UnitAffine,
  UnitKernel,
  project,
)

INTERMEDIATES = 'intermediates'


EXPANSION = 4
"""Units of the wide layers of `block='inverted'`, in widths of the network."""

_WITH_PARAMETERS = {
  'dense': 'Dense',
  'expand': 'Dense',
  'batch_norm': 'BatchNorm',
  'layer_norm': 'LayerNorm',
  'rms_norm': 'RMSNorm',
}


class Sees(NamedTuple):
  """The entries of an observation that each network sees; None for all.

  Attributes:
    actor: the first, and the one after the last.
    critic: likewise.
  """

  actor: tuple[int, int] | None = None
  critic: tuple[int, int] | None = None


EVERYTHING = Sees()


def seen(obs: jax.Array, part: tuple[int, int] | None) -> jax.Array:
  """What a network sees of observations `(..., observation_size)`."""
  return obs if part is None else obs[..., slice(*part)]


class Step(NamedTuple):
  """One step of a network before its heads.

  Attributes:
    kind: 'dense', 'relu', 'batch_norm', 'layer_norm' or 'rms_norm'; 'expand' is
      a dense layer to `EXPANSION` times the width; 'keep' remembers the
      features, and 'add' adds to them the last ones that are remembered.
    name: of the step's parameters within the network's; '' if it has none.
  """

  kind: str
  name: str


def steps(config: Config, layers: int) -> list[Step]:
  """A network up to its heads, step by step.

  `MLP` computes these steps, and `policy.export` writes them into files.

  Args:
    config: its `block` and `normalization` decide the steps.
    layers: hidden layers; with `block='residual'` or `'inverted'`, blocks of
      two of them that follow the first.
  """
  norm = ['batch_norm']
  if config.normalization in ('none', 'layer'):
    norm = ['layer_norm'] if config.normalization == 'layer' else []
  # A layer norm of the input would mix the units of the observations.
  kinds = norm if norm == ['batch_norm'] else []
  if config.block == 'residual':  # BRO's network
    two = ['dense', *norm, 'relu', 'dense', *norm]
    kinds = [*kinds, 'dense', *norm, 'relu', *layers * ['keep', *two, 'add']]
  elif config.block == 'inverted':  # FlashSAC's network
    two = ['expand', *norm, 'relu', 'dense', *norm, 'relu']
    kinds = [*kinds, 'dense', *layers * ['keep', *two, 'add'], 'rms_norm']
  elif config.block == 'norm_relu':
    kinds = kinds + layers * ['dense', *norm, 'relu']
  else:
    kinds = kinds + layers * ['dense', 'relu', *norm]
  # Parameters are numbered by their modules: Dense_0, Dense_1, ...
  names = [_WITH_PARAMETERS.get(kind, '') for kind in kinds]
  return [
    Step(kind, name and f'{name}_{names[:index].count(name)}')
    for index, (kind, name) in enumerate(zip(kinds, names, strict=True))
  ]


class MLP(nn.Module):
  """The steps of `steps`, and one Dense layer per head.

  A caller that passes `mutable=INTERMEDIATES` gets `activations`, of each
  hidden layer, and `features`, the input of the heads (see `plasticity.py`).

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
    precision = self.config.matmul_precision
    unit_scale = self.config.weight_norm_scales
    kept = []
    bias, relu = None, False  # what the next step adds to x
    walk = steps(self.config, self.layers)
    for index, (kind, name) in enumerate(walk):
      following = walk[index + 1].kind if index + 1 < len(walk) else 'head'
      if kind in ('dense', 'expand'):
        has_bias = self.config.block not in ('norm_relu', 'inverted')
        units = self.width * (EXPANSION if kind == 'expand' else 1)
        size = units, self._hidden_kind(), 2**0.5
        kernel, bias = self._dense(name, *size, bias=has_bias)(x.shape[-1])
        x = product(x, kernel, precision)
        if following not in ('relu', 'batch_norm'):
          x, bias = x + bias, None
      elif kind == 'relu':
        activations = nn.relu(x) if bias is None else shift_relu(x, bias)
        self.sow(INTERMEDIATES, 'activations', activations)
        relu = following == 'batch_norm'
        if not relu:
          x, bias = activations, None
      elif kind == 'batch_norm':
        norm = self._batch_norm(name, of_input=index == 0)
        x = norm(x, train, bias, relu)
        bias, relu = None, False
      elif kind == 'layer_norm':
        x = LayerNorm(unit_scale=unit_scale, name=name)(x)
      elif kind == 'rms_norm':
        x = RMSNorm(unit_scale=unit_scale, name=name)(x)
      elif kind == 'keep':
        kept.append(x)
      else:
        x = kept.pop() + x
    self.sow(INTERMEDIATES, 'features', x)
    kind = UnitKernel if self.config.weight_norm_outputs else Affine
    parameters = [
      self._dense(name, outputs, kind, gain, bias=self.head_bias)(x.shape[-1])
      for name, outputs, gain in self.heads
    ]
    # One product for all heads.
    kernel, bias = (
      jnp.concatenate(parts, axis=-1) for parts in zip(*parameters, strict=True)
    )
    out = product(x, kernel, precision) + bias  # pyright: ignore
    ends = np.cumsum([outputs for _, outputs, _ in self.heads])[:-1]
    names = [name for name, *_ in self.heads]
    return dict(zip(names, jnp.split(out, ends, axis=-1), strict=True))

  def _hidden_kind(self) -> type:
    if self.config.weight_norm:
      return UnitAffine
    return SoftAffine if self.config.soft_l2 else Affine

  def _dense(
    self, name: str, units: int, kind: type, gain: float, *, bias: bool
  ) -> Dense:
    init = nn.initializers.lecun_normal()
    if self.config.initializer == 'orthogonal':
      init = orthogonal.initializer(gain)
    return Dense(units, kind, init, bias, name=name)

  def _batch_norm(self, name: str, *, of_input: bool) -> BatchNorm:
    c = self.config
    renorm = None
    if c.normalization == 'batch_renorm':
      renorm = Renorm(c.renorm_warmup, c.renorm_r_max, c.renorm_d_max)
    return BatchNorm(
      c.bn_momentum,
      c.bn_eps,
      renorm,
      of_input,
      c.weight_norm_scales,
      name=name,
    )


class Critic(nn.Module):
  """An ensemble of Q-functions, one MLP each, with statistics of their own."""

  config: Config
  sees: tuple[int, int] | None = None

  @nn.compact
  def __call__(
    self, obs: jax.Array, action: jax.Array, train: bool
  ) -> jax.Array:
    """Outputs of `(rows, obs)` and `(rows, actions)`.

    Returns:
      Q, `(num_critics, rows)`, of scalar critics; of others the outputs that
      `values` reads, `(num_critics, rows, atoms)`.
    """
    c = self.config
    ensemble = nn.vmap(
      MLP,
      variable_axes={'params': 0, 'batch_stats': 0, INTERMEDIATES: 0},
      split_rngs={'params': True},
      in_axes=None,  # pyright: ignore[reportArgumentType]
      axis_size=c.num_critics,
    )(c, c.critic_width, c.critic_layers, (('q', c.atoms, 2**0.5),))
    x = jnp.concatenate([seen(obs, self.sees), action], axis=-1)
    q = ensemble(x, train)['q']
    return q[..., 0] if c.critic_value == 'scalar' else q


class Actor(nn.Module):
  """The policy: mean and clipped log std of a Gaussian before tanh."""

  config: Config
  action_size: int
  sees: tuple[int, int] | None = None

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
    x = seen(obs, self.sees)
    out = MLP(c, c.actor_width, c.actor_layers, heads)(x, train)
    low, high = c.log_std_min, c.log_std_max
    if c.log_std_bound == 'tanh':
      share = 0.5 * (1 + jnp.tanh(out['log_std']))
      return out['mean'], low + (high - low) * share
    return out['mean'], jnp.clip(out['log_std'], low, high)


def init(net: nn.Module, key: jax.Array, *args: jax.Array) -> Network:
  """Draws the parameters of a network; normalised units start at norm 1.

  Args:
    net: the network.
    key: randomness.
    *args: its inputs, of any values.
  """
  variables = net.init(key, *args, train=False)
  params = project(variables['params'])
  return Network(params, variables.get('batch_stats', {}))


def apply(
  net: nn.Module, network: Network, *args: jax.Array, train: bool
) -> tuple[Any, Any]:
  """Output of a network, and its running statistics after the pass.

  Args:
    net: the network.
    network: its parameters and running statistics.
    *args: its inputs.
    train: whether the batch's statistics normalise, and move the running ones.
  """
  variables = {'params': network.params, 'batch_stats': network.batch_stats}
  if not train:
    return net.apply(variables, *args, train=False), network.batch_stats
  output, moved = net.apply(
    variables, *args, train=True, mutable=['batch_stats']
  )
  return output, moved.get('batch_stats', {})
