"""Solutions of small systems, against LAPACK's in float64."""

import jax
import jax.numpy as jp
import numpy as np
import pytest

from mjx_crossq.envs.mjx import elimination

_BLOCK = elimination.BLOCK
_WAYS = (elimination.by_columns, elimination.by_blocks)


def _systems(n, count):
  """Matrices of condition 1e4, and right-hand sides."""
  rng = np.random.RandomState(n)
  basis, _ = np.linalg.qr(rng.normal(size=(count, n, n)))
  values = 10.0 ** rng.uniform(-2, 2, (count, 1, n))
  matrix = np.float32(basis * values @ basis.transpose(0, 2, 1))
  matrix = (matrix + matrix.transpose(0, 2, 1)) / 2
  return matrix, np.float32(rng.normal(size=(count, n, 3)))


@pytest.mark.parametrize(
  'n',
  (1, 2, 5, _BLOCK, _BLOCK + 1, 27, pytest.param(79, marks=pytest.mark.slow)),
)
@pytest.mark.parametrize('solve', _WAYS)
def test_equals_lapack(solve, n):
  matrix, rhs = _systems(n, 20)
  expected = np.linalg.solve(np.float64(matrix), np.float64(rhs))
  ours = jax.jit(jax.vmap(solve))(matrix, rhs)
  scale = np.abs(expected).max(axis=1, keepdims=True)
  assert np.abs((ours - expected) / scale).max() < 2e-2  # Of condition 1e4.
  assert np.median(np.abs((ours - expected) / scale)) < 1e-4


def test_vectors():
  matrix, rhs = _systems(12, 5)
  ours = jax.jit(jax.vmap(elimination.solve_vector))(matrix, rhs[:, :, 0])
  expected = np.linalg.solve(np.float64(matrix), np.float64(rhs))[:, :, 0]
  scale = np.abs(expected).max(axis=1, keepdims=True)
  assert np.abs((ours - expected) / scale).max() < 1e-2


@pytest.mark.parametrize('solve', _WAYS)
def test_errors_are_those_of_cholesky(solve):
  matrix, rhs = _systems(27, 200)
  expected = np.linalg.solve(np.float64(matrix), np.float64(rhs))
  scale = np.abs(expected).max(axis=1, keepdims=True)

  def cholesky(matrix, rhs):
    factor = jax.scipy.linalg.cho_factor(matrix)
    return jax.scipy.linalg.cho_solve(factor, rhs)

  ours, theirs = (
    np.abs(jax.jit(jax.vmap(f))(matrix, rhs) - expected) / scale
    for f in (solve, cholesky)
  )
  for share in (0.5, 0.99):
    assert np.quantile(ours, share) < 3 * np.quantile(theirs, share)


def test_calls_no_library():
  matrix, rhs = _systems(27, 2)
  solve = jax.jit(jax.vmap(elimination.solve))
  text = solve.lower(jp.asarray(matrix), rhs).compile().as_text()
  assert 'custom-call' not in text
