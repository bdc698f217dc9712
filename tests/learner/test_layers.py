"""The layers' written-out derivatives, and what their precisions round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq.learner import batch_norm, layers

ROWS, INPUTS, UNITS = 33, 5, 7


def arrays(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_product_derivative_is_the_matrix_calculus():
  x, kernel, g = arrays((ROWS, INPUTS), (INPUTS, UNITS), (ROWS, UNITS))
  out, pullback = jax.vjp(
    lambda *args: layers.product(*args, 'highest'), x, kernel
  )
  np.testing.assert_allclose(out, x @ kernel, rtol=1e-5, atol=1e-6)
  expected = (g @ kernel.T, x.T @ g)
  for actual, wanted in zip(pullback(g), expected, strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('relu', [False, True])
def test_normalisation_and_its_derivative_in_closed_form(relu):
  """dh = s * (g - mean(g) - h^ * mean(g * h^)), far from zero mean."""
  x, g, bias, scale, offset = arrays(*2 * [(ROWS, UNITS)], *3 * [(UNITS,)])
  x, eps = x if relu else 100 + 3 * x, 1e-3

  def normalize(x, bias, scale, offset):
    args = x, bias, x[0] + bias, offset, (scale,)
    return batch_norm.normalize(relu, eps, None, *args)[0]

  out, pullback = jax.vjp(normalize, x, bias, scale, offset)
  x, g64, bias, scale = (a.astype(np.float64) for a in (x, g, bias, scale))
  h = np.maximum(x + bias, 0) if relu else x + bias
  factor = 1 / np.sqrt(h.var(axis=0) + eps)
  unit = (h - h.mean(axis=0)) * factor
  np.testing.assert_allclose(out, unit * scale + offset, atol=1e-4)
  product = (g64 * unit).mean(axis=0)
  dh = factor * scale * (g64 - g64.mean(axis=0) - unit * product)
  dx = np.where(h > 0, dh, 0) if relu else dh
  expected = dx, dx.sum(axis=0), ROWS * product, g64.sum(axis=0)
  for actual, wanted in zip(pullback(g), expected, strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('distance', [0, 10, 1000])
def test_variance_keeps_its_digits_far_from_zero(distance):
  """Within 1e-6 * (1 + squared distance in standard deviations)."""
  (x,) = arrays((512, UNITS))
  x = 1000 + x
  mean, var = batch_norm.moments(x, x.mean(axis=0) + distance)
  x = x.astype(np.float64)
  np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-6)
  np.testing.assert_allclose(var, x.var(axis=0), rtol=1e-6 * (1 + distance**2))


def test_relu_behind_the_bias_has_the_same_bits_and_derivative():
  x, bias, g = arrays((ROWS, UNITS), (UNITS,), (ROWS, UNITS))
  x[0], x[1] = -bias, np.nan
  functions = layers.shift_relu, lambda x, bias: jax.nn.relu(x + bias)
  (out, pull), (expected, expected_pull) = (
    jax.vjp(function, x, bias) for function in functions
  )
  np.testing.assert_array_equal(out, expected)
  for actual, wanted in zip(pull(g), expected_pull(g), strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-5)


@pytest.mark.parametrize('precision', ['bf16', 'tf32'])
def test_precisions_round_operands_only(precision):
  x, kernel = arrays((ROWS, INPUTS), (INPUTS, UNITS))
  out = layers.product(x, kernel, precision)
  if precision == 'bf16':
    x, kernel = (
      np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64) for a in (x, kernel)
    )
  exact = x.astype(np.float64) @ kernel.astype(np.float64)
  on_cpu = jax.default_backend() == 'cpu'
  tolerance = 1e-5 if precision == 'bf16' or on_cpu else 1e-2
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, exact, rtol=tolerance, atol=tolerance)
