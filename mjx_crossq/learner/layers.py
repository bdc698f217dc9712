"""The layers of the networks but for batch normalisation (`batch_norm.py`).

Apart from its matrix products, the cost of a block is sums over the rows: the
batch statistics, and the gradients of biases and scales. The derivatives are
written by hand, so that each of these sums is computed once.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mjx_crossq.learner.weight_norm import UnitScale

_HIGHEST, _TF32 = jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGH


# -------------------------------------------------------------------- Dense


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: jax.Array, kernel: jax.Array, precision: str) -> jax.Array:
  """`x @ kernel`.

  Args:
    x: `(rows, inputs)`.
    kernel: `(inputs, units)`.
    precision: of this product and the two of its derivative, see
      `Config.matmul_precision`.

  Returns:
    `(rows, units)`.
  """
  return _matmul(x, kernel, precision)


def _product_forward(x, kernel, precision):
  return product(x, kernel, precision), (x, kernel)


def _product_backward(precision, residuals, g):
  x, kernel = residuals
  return _matmul(g, kernel.T, precision), _matmul(x.T, g, precision)


product.defvjp(_product_forward, _product_backward)


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
  """The parameters of a Dense layer; their type says how they are normalised.

  Attributes:
    units: outputs.
    kind: type of its parameters, one of the classes in `weight_norm`.
    kernel_init: initialiser of the kernel; the bias starts at 0.
    use_bias: whether it has one.
  """

  units: int
  kind: type
  kernel_init: Any
  use_bias: bool = True

  @nn.compact
  def __call__(self, inputs: int) -> tuple[jax.Array, jax.Array]:
    """The kernel, `(inputs, units)`, and the bias, `(units,)`.

    Args:
      inputs: length of the layer's input.
    """

    def init(key):
      kernel = self.kernel_init(key, (inputs, self.units), jnp.float32)
      bias = jnp.zeros(self.units) if self.use_bias else None
      return self.kind(kernel=kernel, bias=bias)

    layer = self.param('weights', init)
    bias = layer.bias if self.use_bias else jnp.zeros(self.units)
    return layer.kernel, bias


# ------------------------------------------------------------ normalisations


def scale_and_bias(
  module: nn.Module, features: int, unit_scale: bool, use_bias: bool = True
) -> tuple[jax.Array, Any]:
  """The parameters of a normalisation, `(features,)` each.

  Args:
    module: the layer that they belong to.
    features: their length.
    unit_scale: whether their joint norm is fixed (`weight_norm.UnitScale`).
    use_bias: whether there is one; None is returned if not.
  """

  def both(key):
    bias = jnp.zeros(features) if use_bias else None
    return UnitScale(jnp.ones(features), bias)

  if unit_scale:
    weights = module.param('weights', both)
    return weights.scale, weights.bias
  scale = module.param('scale', nn.initializers.ones, (features,))
  if not use_bias:
    return scale, None
  return scale, module.param('bias', nn.initializers.zeros, (features,))


@jax.custom_vjp
def shift_relu(x: jax.Array, bias: jax.Array) -> jax.Array:
  """`relu(x + bias)`, to the bit.

  With the bias behind the maximum: XLA would hand a plain sum to cuBLAS
  together with the product of matrices before it, as the addition of a matrix,
  for which it repeats the bias over all rows in a GPU's memory.

  Args:
    x: `(rows, features)`.
    bias: `(features,)`.
  """
  return jnp.maximum(x, -bias) + bias


def _shift_relu_forward(x, bias):
  out = shift_relu(x, bias)
  return out, out > 0


def _shift_relu_backward(on, g):
  g = jnp.where(on, g, 0.0)
  return g, jnp.sum(g, axis=0)


shift_relu.defvjp(_shift_relu_forward, _shift_relu_backward)


class LayerNorm(nn.Module):
  """Layer normalisation: each row by its own mean and variance.

  Attributes:
    eps: added to the variance.
    unit_scale: whether scale and bias are kept at one norm.
  """

  eps: float = 1e-6
  unit_scale: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises `(rows, features)` over the features."""
    scale, bias = scale_and_bias(self, x.shape[-1], self.unit_scale)
    mean = jnp.mean(x, axis=-1, keepdims=True)
    var = jnp.mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + self.eps) * scale + bias


class RMSNorm(nn.Module):
  """Each row over its root mean square; it has a scale and no bias.

  Attributes:
    eps: added to the mean square.
    unit_scale: whether the scale is kept at one norm.
  """

  eps: float = 1e-6
  unit_scale: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Normalises `(rows, features)` over the features."""
    scale, _ = scale_and_bias(
      self, x.shape[-1], self.unit_scale, use_bias=False
    )
    square = jnp.mean(x**2, axis=-1, keepdims=True)
    return x * jax.lax.rsqrt(square + self.eps) * scale
