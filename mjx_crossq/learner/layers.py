"""The layers of the networks, with derivatives in few passes over the rows.

Apart from its matrix products, the cost of a block is sums over the rows: the
batch statistics, and the gradients of biases and scales. The derivatives are
written by hand, so that each of these sums is computed once.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

_HIGHEST, _TF32 = jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH


# -------------------------------------------------------------------- Dense


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def affine(
  x: jax.Array, kernel: jax.Array, bias: jax.Array, precision: str
) -> jax.Array:
  """`x @ kernel + bias`.

  Args:
    x: `(rows, inputs)`.
    kernel: `(inputs, units)`.
    bias: `(units,)`.
    precision: of this product and the two of its derivative, see
      `Config.matmul_precision`.

  Returns:
    `(rows, units)`.
  """
  return _matmul(x, kernel, precision) + bias


def _affine_forward(x, kernel, bias, precision):
  return affine(x, kernel, bias, precision), (x, kernel)


def _affine_backward(precision, residuals, g):
  x, kernel = residuals
  dx = _matmul(g, kernel.T, precision)
  return dx, _matmul(x.T, g, precision), jnp.sum(g, axis=0)


affine.defvjp(_affine_forward, _affine_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def affine_relu(
  x: jax.Array, kernel: jax.Array, bias: jax.Array, precision: str
) -> jax.Array:
  """`relu(x @ kernel + bias)`, to the bit, arguments as those of `affine`.

  With the bias behind the maximum. On a GPU, XLA hands `x @ kernel + bias` of
  several networks to cuBLAS as a product that is added to a matrix, for which
  it repeats the bias over all rows in memory.
  """
  return jnp.maximum(_matmul(x, kernel, precision), -bias) + bias


def _affine_relu_forward(x, kernel, bias, precision):
  out = affine_relu(x, kernel, bias, precision)
  return out, (x, kernel, out)


def _affine_relu_backward(precision, residuals, g):
  x, kernel, out = residuals
  g = jnp.where(out > 0, g, 0.0)
  return _affine_backward(precision, (x, kernel), g)


affine_relu.defvjp(_affine_relu_forward, _affine_relu_backward)


def _matmul(a: jax.Array, b: jax.Array, precision: str) -> jax.Array:
  """A product of matrices, accumulated and returned in float32."""
  return jnp.matmul(
    _rounded(a, precision),
    _rounded(b, precision),
    precision=_TF32 if precision == 'tf32' else _HIGHEST,
    preferred_element_type=jnp.float32,
  )


def _rounded(x: jax.Array, precision: str) -> jax.Array:
  """An operand in the number format of the product."""
  return x.astype(jnp.bfloat16) if precision == 'bf16' else x


class Dense(nn.Module):
  """A Dense layer; the type of its parameters says how weights are normalised.

  Attributes:
    units: outputs.
    kind: type of its parameters, one of the classes in `weight_norm`.
    kernel_init: initialiser of the kernel; the bias starts at 0.
    precision: of its matrix products, see `Config.matmul_precision`.
    use_bias: whether it has one.
    relu: whether a ReLU follows.
  """

  units: int
  kind: type
  kernel_init: Any
  precision: str
  use_bias: bool = True
  relu: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Maps `(rows, inputs)` to `(rows, units)`."""

    def init(key):
      kernel = self.kernel_init(key, (x.shape[-1], self.units), jnp.float32)
      bias = jnp.zeros(self.units) if self.use_bias else None
      return self.kind(kernel=kernel, bias=bias)

    layer = self.param('weights', init)
    bias = layer.bias if self.use_bias else jnp.zeros(self.units)
    function = affine_relu if self.relu else affine
    return function(x, layer.kernel, bias, self.precision)


# ------------------------------------------------------ batch normalisation


@jax.custom_vjp
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
  square = jnp.einsum('rf,rf->f', distance, distance, precision=_HIGHEST)
  var = jnp.maximum(square / len(x) - mean**2, 0.0)
  return mean + near, var


def _moments_forward(x, near):
  mean, var = moments(x, near)
  return (mean, var), (x, mean)


def _moments_backward(residuals, g):
  x, mean = residuals
  g_mean, g_var = g
  dx = (g_mean + 2 * g_var * (x - mean)) / len(x)
  return dx, jnp.zeros_like(mean)


moments.defvjp(_moments_forward, _moments_backward)


@jax.custom_vjp
def shift_scale(
  x: jax.Array, mean: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
  """`(x - mean) * scale + bias` of `(rows, features)` and three vectors."""
  return (x - mean) * scale + bias


def _shift_scale_forward(x, mean, scale, bias):
  return shift_scale(x, mean, scale, bias), (x, mean, scale)


def _shift_scale_backward(residuals, g):
  x, mean, scale = residuals
  total = jnp.sum(g, axis=0)
  # On a CPU, XLA compiles the sum of a product to a slow loop: 6.4 ms for two
  # arrays of 512 x 512 numbers, where this contraction takes 0.4 ms.
  row_products = jnp.einsum('rf,rf->f', g, x - mean, precision=_HIGHEST)
  return g * scale, -total * scale, row_products, total


shift_scale.defvjp(_shift_scale_forward, _shift_scale_backward)


class LayerNorm(nn.Module):
  """Layer normalisation: each row by its own mean and variance.

  Attributes:
    eps: added to the variance.
  """

  eps: float = 1e-6

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises `(rows, features)` over the features."""
    features = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, features)
    bias = self.param('bias', nn.initializers.zeros, features)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + self.eps) * scale + bias


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


class BatchNorm(nn.Module):
  """Batch normalisation with running statistics for acting.

  Attributes:
    momentum: decay of the running statistics.
    eps: added to the variance.
    renorm: settings of Batch Renormalisation, or None without it.
    of_input: whether it normalises what comes from outside, whose means may be
      far from 0 compared with the standard deviations.
  """

  momentum: float
  eps: float
  renorm: Renorm | None = None
  of_input: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    """Normalises `(rows, features)` over the rows.

    Args:
      x: the input.
      train: normalise by the batch's statistics and move the running ones
        (collection `batch_stats`); otherwise normalise by the running ones.
    """
    features = x.shape[-1:]
    scale = self.param('scale', nn.initializers.ones, features)
    bias = self.param('bias', nn.initializers.zeros, features)
    running_mean = self.variable('batch_stats', 'mean', jnp.zeros, features)
    running_var = self.variable('batch_stats', 'var', jnp.ones, features)
    calls = None
    if self.renorm:
      calls = self.variable('batch_stats', 'steps', jnp.zeros, (), jnp.int32)

    mean, var = running_mean.value, running_var.value
    if train:
      running = mean, var
      # A row is at most sqrt(rows) standard deviations from the mean.
      near = jax.lax.stop_gradient(x[0] if self.of_input else mean)
      batch_mean, batch_var = mean, var = moments(x, near)
      if self.renorm and calls:
        mean, var = renormalize(
          mean, var, *running, calls.value, self.eps, self.renorm
        )
      if not self.is_initializing():
        m = self.momentum
        running_mean.value = m * running[0] + (1 - m) * batch_mean
        running_var.value = m * running[1] + (1 - m) * batch_var
        if calls:
          calls.value += 1
    return shift_scale(x, mean, scale * jax.lax.rsqrt(var + self.eps), bias)


def renormalize(
  mean: jax.Array,
  var: jax.Array,
  running_mean: jax.Array,
  running_var: jax.Array,
  calls: jax.Array,
  eps: float,
  renorm: Renorm,
) -> tuple[jax.Array, jax.Array]:
  """Corrects a batch's statistics by `r` and `d`.

  Args:
    mean: of the batch, `(features,)`.
    var: of the batch, `(features,)`.
    running_mean: before this batch, `(features,)`.
    running_var: before this batch, `(features,)`.
    calls: train-mode calls before, `()`.
    eps: added to the variances.
    renorm: the settings.

  Returns:
    The mean and variance to normalise by.
  """
  r_max, d_max = renorm.r_max, renorm.d_max
  running_std = jnp.sqrt(running_var + eps)
  r = jnp.clip(jnp.sqrt(var + eps) / running_std, 1 / r_max, r_max)
  d = jnp.clip((mean - running_mean) / running_std, -d_max, d_max)
  warm = calls >= renorm.warmup
  r = jax.lax.stop_gradient(jnp.where(warm, r, 1.0))
  d = jax.lax.stop_gradient(jnp.where(warm, d, 0.0))
  return mean - d * _sqrt(var) / r, var / r**2


def _sqrt(x: jax.Array) -> jax.Array:
  """Square root with gradient 0 at 0.

  A unit whose ReLU is 0 on the whole batch has variance 0, where the gradient
  of sqrt is infinite and would make all parameters NaN.
  """
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
