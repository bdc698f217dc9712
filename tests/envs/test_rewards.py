"""`rewards.tolerance` against dm_control's."""

import itertools

import jax
import numpy as np
import pytest

from mjx_crossq.envs import rewards, runtime

with runtime.quiet():
  from dm_control.utils import rewards as stock

_SIGMOIDS = (
  'gaussian',
  'hyperbolic',
  'long_tail',
  'reciprocal',
  'cosine',
  'linear',
  'quadratic',
  'tanh_squared',
)
_BOUNDS = ((0.0, 0.0), (-0.5, 1.0), (2.0, float('inf')), (-float('inf'), 0.0))
# Binary fractions, on which float32 and float64 agree about the bounds.
_GRID = np.linspace(-4, 4, 257)


@pytest.mark.parametrize('sigmoid', _SIGMOIDS)
def test_tolerance_equals_stock(sigmoid):
  values = (0.1, 0.5, 0.9)
  if sigmoid in ('cosine', 'linear', 'quadratic'):
    values += (0.0,)
  for bounds, margin, value in itertools.product(
    _BOUNDS, (0.0, 0.5, 2.0), values
  ):
    ours = rewards.tolerance(_GRID, bounds, margin, sigmoid, value)
    theirs = stock.tolerance(_GRID, bounds, margin, sigmoid, value)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_defaults_equal_stock():
  ours = rewards.tolerance(_GRID, margin=1.5)
  np.testing.assert_allclose(
    ours, stock.tolerance(_GRID, margin=1.5), atol=1e-6
  )


def test_scalar_in_scalar_out():
  assert rewards.tolerance(jax.numpy.float32(0.5), (0, 1)).shape == ()


@pytest.mark.parametrize(
  ('kwargs', 'match'),
  [
    ({'bounds': (1, 0)}, 'above'),
    ({'margin': -1}, 'negative'),
    ({'margin': 1, 'sigmoid': 'gauss'}, 'Unknown sigmoid'),
    ({'margin': 1, 'value_at_margin': 0}, 'value_at_margin'),
    ({'margin': 1, 'value_at_margin': 1, 'sigmoid': 'linear'}, 'value_at'),
  ],
)
def test_refuses_nonsense(kwargs, match):
  with pytest.raises(ValueError, match=match):
    rewards.tolerance(np.zeros(3), **kwargs)
