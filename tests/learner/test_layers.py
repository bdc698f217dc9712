"""The layers' written-out derivatives, and what their precisions round."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq.learner import layers

ROWS, INPUTS, UNITS = 33, 5, 7


def arrays(*shapes):
  rng = np.random.default_rng(0)
  return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def test_affine_derivative_is_the_matrix_calculus():
  x, kernel, bias, g = arrays(
    (ROWS, INPUTS), (INPUTS, UNITS), (UNITS,), (ROWS, UNITS)
  )
  out, pullback = jax.vjp(
    lambda *args: layers.affine(*args, 'highest'), x, kernel, bias
  )
  np.testing.assert_allclose(out, x @ kernel + bias, rtol=1e-5, atol=1e-6)
  expected = (g @ kernel.T, x.T @ g, g.sum(axis=0))
  for actual, wanted in zip(pullback(g), expected, strict=True):
    np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def test_batch_normalisation_derivative_in_closed_form():
  """dx = s * (g - mean(g) - x^ * mean(g * x^)), far from zero mean."""
  x, g = arrays((ROWS, UNITS), (ROWS, UNITS))
  x, eps = 100 + 3 * x, 1e-3

  def normalise(x):
    mean, var = layers.moments(x)
    one, zero = jnp.ones(UNITS), jnp.zeros(UNITS)
    scale = one * jax.lax.rsqrt(var + eps)
    return layers.shift_scale(x, mean, scale, zero)

  out, pullback = jax.vjp(normalise, x)
  x64, g64 = x.astype(np.float64), g.astype(np.float64)
  scale = 1 / np.sqrt(x64.var(axis=0) + eps)
  unit = (x64 - x64.mean(axis=0)) * scale
  expected = scale * (g64 - g64.mean(axis=0) - unit * (g64 * unit).mean(axis=0))
  np.testing.assert_allclose(out, unit, atol=1e-4)
  np.testing.assert_allclose(pullback(g)[0], expected, atol=1e-5)


@pytest.mark.parametrize('precision', ['bf16', 'tf32'])
def test_precisions_round_operands_only(precision):
  x, kernel, bias = arrays((ROWS, INPUTS), (INPUTS, UNITS), (UNITS,))
  out = layers.affine(x, kernel, bias, precision)
  if precision == 'bf16':
    x, kernel = (
      np.asarray(jnp.asarray(a, jnp.bfloat16), np.float64) for a in (x, kernel)
    )
  exact = x.astype(np.float64) @ kernel.astype(np.float64) + bias
  on_cpu = jax.default_backend() == 'cpu'
  tolerance = 1e-5 if precision == 'bf16' or on_cpu else 1e-2
  assert out.dtype == jnp.float32
  np.testing.assert_allclose(out, exact, rtol=tolerance, atol=tolerance)
