"""Batch normalisation and Batch Renormalisation, with derivatives by hand.

The bias and the ReLU before a normalisation belong to it, so that each sum over
the rows is computed once.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from mjx_crossq.learner.layers import scale_and_bias, shift_relu

_HIGHEST = jax.lax.Precision.HIGHEST


class Renorm(NamedTuple):
  """Batch Renormalisation (arXiv 1702.03275) as CrossQ uses it.

  In train mode the batch statistics are corrected towards the running ones
  by `r` and `d`, which carry no gradient.

  Attributes:
    warmup: train-mode calls of plain batch normalisation before.
    r_max: the scale correction is clipped to [1 / r_max, r_max].
    d_max: the shift correction is clipped to [-d_max, d_max].
  """

  warmup: int
  r_max: float
  d_max: float


def moments(x: jax.Array, near: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Mean and variance of each feature, in one pass over the rows.

  In float32, E[x^2] - E[x]^2 loses its digits where a feature's mean is large
  compared with its standard deviation. So the sums are those of the distances
  to `near`: the relative error of the variance is some 1e-7 times
  `1 + (near - mean)^2 / variance`.

  Args:
    x: `(rows, features)`.
    near: any values close to the means, `(features,)`.

  Returns:
    Both `(features,)`.
  """
  distance = x - near
  mean = jnp.mean(distance, axis=0)
  var = jnp.mean(distance**2, axis=0) - mean**2
  return mean + near, jnp.maximum(var, 0.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def normalize(
  relu: bool,
  eps: float,
  renorm: Renorm | None,
  x: jax.Array,
  bias: jax.Array,
  near: jax.Array,
  offset: jax.Array,
  of_scaling: tuple[jax.Array, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Bias, ReLU if any, and normalisation by the statistics of the batch.

      h = relu(x + bias)
      shift, factor = mean(h), scale / sqrt(var(h) + eps)
      y = (h - shift) * factor + offset

  One function, so that each sum over the rows is computed once.

  Args:
    relu: whether there is a ReLU.
    eps: added to the variance.
    renorm: corrects the statistics, see `renormalize`; None for none.
    x: `(rows, features)`.
    bias: `(features,)`.
    near: values close to the means of h, see `moments`.
    offset: `(features,)`.
    of_scaling: the scale, `(features,)`, and for `renormalize` the running
      statistics and `warm`.

  Returns:
    y, and the mean and the variance of h.
  """
  arguments = x, bias, near, offset, of_scaling
  return _normalize_forward(relu, eps, renorm, *arguments)[0]


def _normalize_forward(relu, eps, renorm, x, bias, near, offset, of_scaling):
  h = shift_relu(x, bias) if relu else x + bias
  mean, var = moments(h, near)
  shift, factor = _scaling(eps, renorm, mean, var, of_scaling)
  out = (h - shift) * factor + offset, mean, var
  return out, (h, mean, var, of_scaling)


def _normalize_backward(relu, eps, renorm, residuals, g):
  h, mean, var, of_scaling = residuals
  g, g_mean, g_var = g
  rows = len(h)
  scaling = functools.partial(_scaling, eps, renorm)
  (shift, factor), pull = jax.vjp(scaling, mean, var, of_scaling)
  total = jnp.sum(g, axis=0)
  # On a CPU, XLA compiles the sum of a product to a slow loop: 6.4 ms for two
  # arrays of 512 x 512 numbers, where this contraction takes 0.4 ms.
  of_products = jnp.einsum('rf,rf->f', g, h - mean, precision=_HIGHEST)
  d_mean, d_var, d_scaling = pull(
    (-total * factor, of_products + (mean - shift) * total)
  )
  d_mean = (d_mean + g_mean) / rows
  d_var = 2 * (d_var + g_var) / rows
  dh = g * factor + d_mean + d_var * (h - mean)
  if relu:
    dh = jnp.where(h > 0, dh, 0.0)
    d_bias = jnp.sum(dh, axis=0)
  else:
    d_bias = factor * total + d_mean * rows
  return dh, d_bias, jnp.zeros_like(mean), total, d_scaling


normalize.defvjp(_normalize_forward, _normalize_backward)


def _scaling(eps, renorm, mean, var, of_scaling):
  """What `normalize` subtracts and multiplies by."""
  scale, *running = of_scaling
  if renorm:
    mean_, var_, warm = running
    mean, var = renormalize(mean, var, mean_, var_, warm, eps, renorm)
  return mean, scale * jax.lax.rsqrt(var + eps)


class BatchNorm(nn.Module):
  """Batch normalisation with running statistics for acting.

  Attributes:
    momentum: decay of the running statistics.
    eps: added to the variance.
    renorm: settings of Batch Renormalisation, or None without it.
    of_input: whether it normalises what comes from outside, whose means may be
      far from 0 compared with the standard deviations.
    unit_scale: whether scale and bias are kept at one norm.
  """

  momentum: float
  eps: float
  renorm: Renorm | None = None
  of_input: bool = False
  unit_scale: bool = False

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    train: bool,
    bias: jax.Array | None = None,
    relu: bool = False,
  ) -> jax.Array:
    """Normalises `relu(x + bias)`, `(rows, features)`, over the rows.

    Args:
      x: the input.
      train: normalise by the batch's statistics and move the running ones
        (collection `batch_stats`); otherwise normalise by the running ones.
      bias: of the layer before, `(features,)`; None for none.
      relu: whether there is a ReLU before.
    """
    features = x.shape[-1:]
    scale, offset = scale_and_bias(self, x.shape[-1], self.unit_scale)
    mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
    var = self.variable('batch_stats', 'var', jnp.ones, features)
    calls = None
    if self.renorm:
      calls = self.variable('batch_stats', 'steps', jnp.zeros, (), jnp.int32)
    if bias is None:
      bias = jnp.zeros(features)
    if not train:
      x = shift_relu(x, bias) if relu else x + bias
      factor = scale * jax.lax.rsqrt(var.value + self.eps)
      return (x - mean.value) * factor + offset

    # A row is at most sqrt(rows) standard deviations from the mean.
    near = jax.lax.stop_gradient(x[0] if self.of_input else mean.value)
    of_scaling = scale, mean.value, var.value
    if calls:
      warm = calls.value >= self.renorm.warmup  # pyright: ignore
      of_scaling += (warm.astype(x.dtype),)
    out: Any = normalize(
      relu, self.eps, self.renorm, x, bias, near, offset, of_scaling
    )
    y, batch_mean, batch_var = out
    if not self.is_initializing():
      m = self.momentum
      mean.value = m * mean.value + (1 - m) * batch_mean
      var.value = m * var.value + (1 - m) * batch_var
      if calls:
        calls.value += 1
    return y


def renormalize(
  mean: jax.Array,
  var: jax.Array,
  running_mean: jax.Array,
  running_var: jax.Array,
  warm: jax.Array,
  eps: float,
  renorm: Renorm,
) -> tuple[jax.Array, jax.Array]:
  """Corrects a batch's statistics by `r` and `d`.

  Args:
    mean: of the batch, `(features,)`.
    var: of the batch, `(features,)`.
    running_mean: before this batch, `(features,)`.
    running_var: before this batch, `(features,)`.
    warm: 1 after the warm-up, else 0, `()`.
    eps: added to the variances.
    renorm: the settings.

  Returns:
    The mean and variance to normalise by.
  """
  r_max, d_max = renorm.r_max, renorm.d_max
  running_std = jnp.sqrt(running_var + eps)
  r = jnp.clip(jnp.sqrt(var + eps) / running_std, 1 / r_max, r_max)
  d = jnp.clip((mean - running_mean) / running_std, -d_max, d_max)
  r = jax.lax.stop_gradient(jnp.where(warm > 0, r, 1.0))
  d = jax.lax.stop_gradient(jnp.where(warm > 0, d, 0.0))
  return mean - d * _sqrt(var) / r, var / r**2


def _sqrt(x: jax.Array) -> jax.Array:
  """Square root with gradient 0 at 0.

  A unit whose ReLU is 0 on the whole batch has variance 0, where the gradient
  of sqrt is infinite and would make all parameters NaN.
  """
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
