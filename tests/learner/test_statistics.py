"""Statistics against rliable, closed forms and brute force."""

import itertools

import numpy as np
import pytest
import scipy.stats

from mjx_crossq.results import statistics

# Runs by tasks; one score above 1, some of one row equal to the other's.
A = np.array(
  [
    [12, 455, 871],
    [95, 502, 902],
    [33, 388, 640],
    [204, 611, 955],
    [51, 470, 120],
  ]
)
B = np.array(
  [
    [40, 400, 871],
    [95, 300, 950],
    [10, 120, 800],
    [100, 455, 930],
    [22, 350, 700],
    [77, 511, 655],
    [5, 290, 1020],
  ]
)
SCORES = {'A': list(A.T / 1000), 'B': list(B.T / 1000)}
THRESHOLDS = np.array([0, 0.1, 0.455, 0.7, 0.95])

# rliable 1.2.0 (arch 6.3.0, numpy 1.26.4, scipy 1.13.1) on A / 1000 and
# B / 1000: metrics.aggregate_iqm, aggregate_mean, aggregate_median,
# aggregate_optimality_gap with gamma 1 and .6, library.score_distributions;
# the intervals are library.get_interval_estimates with reps=50000 after
# np.random.seed(0).
RLIABLE = {
  'A': {
    'iqm': 0.38722222222222225,
    'mean': 0.42060000000000003,
    'median': 0.4852,
    'gap': 0.5793999999999999,
    'gap below .6': 0.2446666666666667,
    'profile': [1, 11 / 15, 7 / 15, 0.2, 1 / 15],
  },
  'B': {
    'iqm': 0.3614545454545455,
    'mean': 0.4143333333333334,
    'median': 0.3465714285714286,
    'gap': 0.5866190476190476,
    'gap below .6': 0.2678571428571429,
    'profile': [1, 14 / 21, 8 / 21, 5 / 21, 1 / 21],
  },
}
RLIABLE_INTERVALS = {
  'A': {
    'iqm': (0.26833, 0.51),
    'mean': (0.31607, 0.50187),
    'median': (0.391, 0.5486),
    'optimality_gap': (0.49813, 0.68393),
  },
  'B': {
    'iqm': (0.30427, 0.42336),
    'mean': (0.37029, 0.45662),
    'median': (0.25586, 0.43171),
    'optimality_gap': (0.54519, 0.63024),
  },
}
# metrics.probability_of_improvement(A, B), (B, A), (A, A); reps=20000.
RLIABLE_IMPROVEMENT = (0.6047619047619047, 0.3952380952380952, 0.5)
RLIABLE_IMPROVEMENT_INTERVAL = (0.42369, 0.78095)


@pytest.mark.parametrize('name', ['A', 'B'])
def test_point_estimates_are_those_of_rliable(name):
  scores = SCORES[name]
  found = {
    'iqm': statistics.iqm(scores),
    'mean': statistics.mean(scores),
    'median': statistics.median(scores),
    'gap': statistics.optimality_gap(scores),
    'gap below .6': statistics.optimality_gap(scores, target=0.6),
    'profile': statistics.performance_profile(scores, THRESHOLDS),
  }
  assert found.keys() == RLIABLE[name].keys()
  for key, value in RLIABLE[name].items():
    np.testing.assert_allclose(found[key], value, rtol=1e-12, err_msg=key)


def test_probability_of_improvement_is_that_of_rliable():
  pairs = (('A', 'B'), ('B', 'A'), ('A', 'A'))
  found = [
    statistics.probability_of_improvement(SCORES[x], SCORES[y])
    for x, y in pairs
  ]
  np.testing.assert_allclose(found, RLIABLE_IMPROVEMENT, rtol=1e-12)
  with pytest.raises(ValueError):
    statistics.probability_of_improvement(SCORES['A'], SCORES['B'][:2])


@pytest.mark.parametrize('name', ['A', 'B'])
@pytest.mark.parametrize('statistic', RLIABLE_INTERVALS['A'])
def test_intervals_are_those_of_rliable(name, statistic):
  found = statistics.interval(
    getattr(statistics, statistic), SCORES[name], replicates=20_000
  )
  expected = RLIABLE_INTERVALS[name][statistic]
  # Both are draws: over seeds the ends move by about .002.
  np.testing.assert_allclose(found, expected, atol=0.008)


def test_interval_of_improvement_is_that_of_rliable():
  found = statistics.interval(
    statistics.probability_of_improvement,
    SCORES['A'],
    SCORES['B'],
    replicates=20_000,
  )
  np.testing.assert_allclose(found, RLIABLE_IMPROVEMENT_INTERVAL, atol=0.01)


@pytest.mark.parametrize('counts', [(1,), (3,), (3, 3), (10, 5, 2), (15, 1)])
def test_unequal_numbers_of_runs(counts):
  rng = np.random.default_rng(0)
  scores = [rng.normal(size=(count, 4)) for count in counts]
  pooled = np.concatenate(scores)
  np.testing.assert_allclose(
    statistics.iqm(scores), scipy.stats.trim_mean(pooled, 0.25, axis=0)
  )
  means = [x.mean(axis=0) for x in scores]
  np.testing.assert_allclose(
    statistics.median(scores), np.median(means, axis=0)
  )
  np.testing.assert_allclose(statistics.mean(scores), np.mean(means, axis=0))
  clipped = [np.minimum(x, 0.2).mean(axis=0) for x in scores]
  np.testing.assert_allclose(
    statistics.optimality_gap(scores, 0.2), 0.2 - np.mean(clipped, axis=0)
  )
  above = [(x > 0.1).mean(axis=0) for x in scores]
  profile = statistics.performance_profile(scores, np.array([0.1, 9.0]))
  np.testing.assert_allclose(profile[:, 0], np.mean(above, axis=0))
  np.testing.assert_array_equal(profile[:, 1], 0)


def test_area_under_curve():
  steps = np.array([0.0, 10, 40])
  # Of a line, it is the height in the middle whatever the grid.
  np.testing.assert_allclose(
    statistics.area_under_curve(steps, [[3, 3, 3], [0, 10, 40]]), [3, 20]
  )
  np.testing.assert_allclose(
    statistics.area_under_curve(steps + 7, [0.0, 6, 6]), (30 + 180) / 40
  )
  for wrong in ([5.0], [0.0, 0.0], [1.0, 0.0]):
    with pytest.raises(ValueError):
      statistics.area_under_curve(wrong, wrong)


def test_bootstrap_draws_every_resample_as_often():
  # Two runs in the one task and three in the other: 4 x 27 resamples, whose
  # means are known with their probabilities.
  scores = [np.array([0.0, 1.0]), np.array([0.0, 3.0, 10.0])]
  means = [
    [np.mean(draw) for draw in itertools.product(x, repeat=len(x))]
    for x in scores
  ]
  expected = np.array([(a + b) / 2 for a, b in itertools.product(*means)])
  found = statistics.bootstrap(
    statistics.mean, scores, replicates=40_000, seed=1
  )
  for value in np.unique(expected.round(9)):
    share = np.isclose(found, value).mean()
    probability = np.isclose(expected, value).mean()
    # Five standard errors of a share.
    error = 5 * np.sqrt(probability * (1 - probability) / len(found))
    assert abs(share - probability) < error
  variance = sum(x.var() / len(x) for x in scores) / len(scores) ** 2
  np.testing.assert_allclose(found.var(), variance, rtol=0.03)


def test_bootstrap_keeps_curves_whole_and_works_in_blocks(monkeypatch):
  rng = np.random.default_rng(0)
  runs = [rng.normal(size=(n, 1)) for n in (4, 7)]
  curves = [np.concatenate([x, 2 * x, -x], axis=1) for x in runs]
  found = statistics.bootstrap(statistics.mean, curves, replicates=50)
  assert found.shape == (50, 3)
  # A resample has the same runs at every point.
  np.testing.assert_allclose(found[:, 1], 2 * found[:, 0])
  np.testing.assert_allclose(found[:, 2], -found[:, 0])
  assert len(np.unique(found[:, 0])) == 50
  profile = statistics.bootstrap(
    lambda s: statistics.performance_profile(s, THRESHOLDS), curves
  )
  assert profile.shape == (2000, 3, len(THRESHOLDS))
  # Blocks bound the memory; the number of replicates stays what was asked.
  monkeypatch.setattr(statistics, '_BLOCK', 33 * 7)
  blocks = statistics.bootstrap(statistics.mean, curves, replicates=50)
  assert blocks.shape == (50, 3)
  assert len(np.unique(blocks[:, 0])) == 50


def test_interval_covers_the_truth_as_often_as_it_says():
  rng = np.random.default_rng(3)
  trials = 400
  # 20 runs: the percentile interval of a mean is a little narrow, about
  # sqrt(19/20) x 1.96 / t(19), and covers 93 % where 95 % are asked.
  covered = 0
  for seed in range(trials):
    scores = [rng.normal(loc, 1, size=20) for loc in (0.0, 5.0, -2.0)]
    low, high = statistics.interval(
      statistics.mean, scores, replicates=500, seed=seed
    )
    covered += low <= 1.0 <= high
  assert 0.90 < covered / trials < 0.98
  low, high = statistics.interval(statistics.mean, [np.full(5, 2.0)])
  assert low == high == 2


def test_level_is_the_share_between_the_ends():
  scores = [np.random.default_rng(0).normal(size=200)]
  narrow = statistics.interval(statistics.mean, scores, level=0.5)
  wide = statistics.interval(statistics.mean, scores, level=0.9)
  error = scores[0].std() / np.sqrt(200)
  for (low, high), z in ((narrow, 0.6745), (wide, 1.645)):
    np.testing.assert_allclose((high - low) / 2, z * error, rtol=0.1)


@pytest.mark.parametrize(
  'scores', [[], [np.array([])], [np.array([1.0, np.nan])], [np.float64(1)]]
)
def test_scores_without_runs_or_with_nan_are_refused(scores):
  for statistic in (statistics.iqm, statistics.mean, statistics.median):
    with pytest.raises(ValueError, match='scores'):
      statistic(scores)
