"""Orthogonal matrices beside NumPy's QR and flax's initialiser."""

import jax
import numpy as np
import pytest
from flax import linen as nn

from mjx_crossq.learner import orthogonal

SHAPES = [(70, 70), (5, 70), (70, 33), (9, 1), (1, 4), (1, 1)]


def reference(matrix):
  """Q of numpy's QR in float64, where R has a positive diagonal."""
  q, r = np.linalg.qr(np.float64(matrix))
  return q * np.sign(np.diagonal(r))


@pytest.mark.parametrize('shape', SHAPES)
def test_columns_are_those_of_a_qr(shape):
  matrix = np.random.default_rng(0).normal(size=sorted(shape, reverse=True))
  found = orthogonal.orthonormal(np.float32(matrix))
  expected = reference(np.float32(matrix))
  assert found.dtype == np.float32
  # An error of rounding times the condition number.
  error = 1e-6 * np.linalg.cond(matrix)
  np.testing.assert_allclose(found, expected, atol=error)
  np.testing.assert_allclose(found.T @ found, np.eye(min(shape)), atol=2e-6)


def test_nearly_dependent_columns_are_orthogonal():
  rng = np.random.default_rng(0)
  matrix = rng.normal(size=(64, 1)) + 1e-3 * rng.normal(size=(64, 40))
  q = np.asarray(orthogonal.orthonormal(np.float32(matrix)))
  np.testing.assert_allclose(q.T @ q, np.eye(40), atol=2e-6)


@pytest.mark.parametrize('shape', SHAPES)
def test_weights_are_those_of_flax(shape):
  keys = jax.random.split(jax.random.key(3), 2)
  ours = jax.vmap(lambda key: orthogonal.initializer(1.5)(key, shape))(keys)
  theirs = [nn.initializers.orthogonal(1.5)(key, shape) for key in keys]
  np.testing.assert_allclose(ours, theirs, atol=3e-5)
