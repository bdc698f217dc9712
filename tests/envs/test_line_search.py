"""The exact line search, against a minimiser in float64."""

import jax
import jax.numpy as jp
import numpy as np
import pytest
from scipy import optimize

from mjx_crossq.envs.mjx import line_search

from . import checks


def _rows(rng, n):
  """A line's problem, with rows of very different stiffness."""
  residual = rng.normal(size=n) * 10.0 ** rng.uniform(-3, 1, n)
  rate = rng.normal(size=n) * 10.0 ** rng.uniform(-2, 2, n)
  stiffness = 10.0 ** rng.uniform(-2, 5, n)
  # Slots without a contact have rows of zeros, and some rows touch exactly.
  residual[rng.random(n) < 0.3] = 0
  rate[rng.random(n) < 0.3] = 0
  curvature = 10.0 ** rng.uniform(-1, 3)
  smooth = -(10.0 ** rng.uniform(-2, 3))
  return smooth, curvature, residual, rate, stiffness


def _derivative(smooth, curvature, residual, rate, stiffness):
  def derivative(step):
    moved = np.minimum(residual + step * rate, 0)
    return smooth + curvature * step + np.sum(stiffness * rate * moved)

  return derivative


@pytest.mark.parametrize('n', (0, 1, 7, 100, 300))
def test_equals_a_float64_minimiser(n):
  rng = np.random.RandomState(n)
  minimiser = jax.jit(line_search.minimiser)
  moved = 0
  for _ in range(200):
    smooth, *rows = _rows(rng, n)
    rows = [np.float64(np.float32(x)) for x in rows]
    derivative = _derivative(smooth, *rows)
    slope = derivative(0)
    step = float(minimiser(*map(jp.float32, (slope, *rows))))
    if slope >= 0:
      assert step == 0
      continue
    bound = -slope / rows[0]  # The rows only shorten it.
    assert derivative(bound) >= -1e-9 * abs(slope)
    expected = optimize.brentq(derivative, 0, bound * (1 + 1e-9), xtol=1e-300)
    # The derivative vanishes to the rounding of its terms and of the step.
    curvature, _, rate, stiffness = rows
    terms = (curvature + np.sum(stiffness * rate**2)) * step - slope
    assert abs(derivative(step)) <= 1e-6 * terms
    assert abs(step - expected) <= 1e-6 * terms / curvature
    moved += 1
  assert moved > 50


def test_many_breakpoints_in_float64():
  """In float64 the derivative is zero to rounding, whatever the segment."""
  rng = np.random.RandomState(0)
  with jax.enable_x64(True):
    minimiser = jax.jit(line_search.minimiser)
    for _ in range(100):
      smooth, *rows = _rows(rng, 300)
      derivative = _derivative(smooth, *rows)
      slope = derivative(0)
      if slope < 0:
        step = float(minimiser(*map(jp.asarray, (slope, *rows))))
        assert abs(derivative(step)) < 1e-10 * abs(slope)


def test_minimum_beyond_the_nearest_breakpoints():
  """The step then ends early, at a lower cost and before the minimum."""
  rng = np.random.RandomState(0)
  n = 4 * line_search.NEAREST
  residual, rate = rng.uniform(-1, -0.1, n), rng.uniform(0.9, 1.1, n)
  stiffness = np.full(n, 1e-3)
  curvature, smooth = 1.0, -10.0
  derivative = _derivative(smooth, curvature, residual, rate, stiffness)
  arguments = (derivative(0), curvature, residual, rate, stiffness)
  step = float(line_search.minimiser(*map(jp.float32, arguments)))
  nearest = np.sort(-residual / rate)[line_search.NEAREST]
  assert step >= nearest * (1 - 1e-5)
  assert derivative(step) < 0


@pytest.mark.parametrize(
  ('task', 'exact'),
  (
    ('cheetah-run', True),
    ('quadruped-run', True),
    ('finger-spin', False),  # Elliptic cones.
  ),
)
def test_only_where_it_is_exact(task, exact):
  assert line_search.is_exact(checks.load(task).model) == exact
