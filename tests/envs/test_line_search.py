"""The line searches, against a minimiser in float64."""

import functools

import jax
import jax.numpy as jp
import numpy as np
import pytest
from scipy import optimize

from mjx_crossq.envs.mjx import line_search, row_costs

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


_WAYS = (line_search.minimiser, line_search.followed)


@pytest.mark.parametrize('way', _WAYS)
@pytest.mark.parametrize('n', (0, 1, 7, 100, 300))
def test_equals_a_float64_minimiser(n, way):
  rng = np.random.RandomState(n)
  minimiser = jax.jit(way)
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


@pytest.mark.parametrize('way', _WAYS)
def test_many_breakpoints_in_float64(way):
  """In float64 the derivative is zero to rounding, whatever the segment."""
  rng = np.random.RandomState(0)
  with jax.enable_x64(True):
    minimiser = jax.jit(way)
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


def _elliptic(rng, n):
  """Costs of `n` contacts with elliptic cones and `n` dry rows, as arrays."""
  normal = 10.0 ** rng.uniform(-2, 5, (n, 1))
  friction = rng.uniform(0.1, 2, (n, 2))
  tangent = normal * (friction / friction[:, :1]) ** 2
  cones = np.hstack([normal, tangent])
  dry = np.append(10.0 ** rng.uniform(-2, 1, n), np.full(3 * n, np.inf))
  stiffness = np.append(10.0 ** rng.uniform(-2, 3, n), cones)
  return stiffness, dry, cones, friction


def _costs(stiffness, dry, cones, friction):
  n = len(cones)
  cones = row_costs.Cones(n, cones, friction, friction[:, 0])
  return row_costs.RowCosts(stiffness, np.zeros(4 * n, bool), dry, (cones,))


@jax.jit
def _slope_at(step, line, costs):
  smooth, curvature, residual, rate = line
  force = _costs(*costs).force(residual + step * rate)
  return smooth + curvature * step - rate @ force


@jax.jit
def _steps(slope, line, costs):
  """By `step`, and by each of the two that it chooses from by the platform."""
  derivative = functools.partial(_slope_at, line=line, costs=costs)
  return (
    line_search.step(slope, *line[1:], _costs(*costs)),
    line_search.zero(derivative, slope, -slope / line[1]),
    line_search.bracketed(derivative, slope, -slope / line[1]),
  )


@pytest.mark.parametrize('n', (8, 1))
def test_step_of_elliptic_cones_equals_a_float64_minimiser(n):
  rng = np.random.RandomState(n)
  moved = 0
  with jax.enable_x64(True):
    for _ in range(60):
      costs = _elliptic(rng, n)
      residual = rng.normal(size=4 * n) * 10.0 ** rng.uniform(-3, 1, 4 * n)
      rate = rng.normal(size=4 * n) * 10.0 ** rng.uniform(-2, 2, 4 * n)
      curvature, smooth = 10.0 ** rng.uniform(-1, 3), -(10.0 ** rng.normal())
      line = smooth, curvature, residual, rate
      slope = float(_slope_at(0.0, line, costs))
      steps = _steps(slope, line, costs)
      if slope >= 0:
        assert steps == (0, 0, 0)
        continue
      bound = -slope / curvature * 1.000001
      expected = optimize.brentq(_slope_at, 0, bound, args=(line, costs))
      # Newton's method takes steps of about 1; far from it brackets are wide.
      for step in steps:
        assert abs(step - expected) <= 1e-3 * expected + 1e-5
      moved += 1
  assert moved > 20


@pytest.mark.parametrize('root', (1e-5, 0.02, 1, 60))
def test_brackets_of_a_jump_shrink_as_fast_as_by_bisection(root):
  """Secants are of no use there."""
  points = []

  def derivative(point):
    points.append(float(point))
    return jp.where(point < root, -1e-4, 1.0)

  with jax.disable_jit():
    found = line_search.bracketed(derivative, jp.float32(-1e-4), jp.float32(80))
  assert abs(found - root) <= 2.0**-12 * (root + 2.0**-8)
  halvings = np.log2(np.log1p(80 * 2**8) * 2**12)
  assert len(points) <= np.ceil(halvings) + 1 + 2


def test_which_lines_are_piecewise_quadratic():
  found = {}

  def look(key, task):
    env = checks.load(task)
    data = env.reset(key).pipeline_state
    found[task] = row_costs.of(env.model, data).piecewise_quadratic

  for task in ('cheetah-run', 'finger-spin'):
    jax.eval_shape(functools.partial(look, task=task), jax.random.key(0))
  assert found == {'cheetah-run': True, 'finger-spin': False}
