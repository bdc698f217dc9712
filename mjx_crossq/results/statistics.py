"""Statistics of a few runs on several tasks (Agarwal et al., 2021).

Definitions are those of *Deep Reinforcement Learning at the Edge of the
Statistical Precipice* (arXiv 2108.13264) and of its library rliable, which the
tests compare with. Everywhere

  `scores` is a sequence with one array `(runs, ...)` per task.

The number of runs may differ between tasks; the trailing axes (for instance
evaluation points) are the same for all tasks and are kept by every statistic.
Scores have no unit here: divide DMC returns by 1,000, their maximum, first.
The IQM pools the runs of all tasks, so that a task with more runs weighs more
in it; in the other statistics every task weighs the same.
"""

from collections.abc import Callable, Sequence

import numpy as np

Scores = Sequence[np.ndarray]

# Largest size of an array of bootstrap replicates.
_BLOCK = 2**22


def iqm(scores: Scores) -> np.ndarray:
  """Interquartile mean: the 25 % trimmed mean of the pooled runs.

  Of `n` pooled scores, the `floor(n / 4)` smallest and largest are left out,
  as `scipy.stats.trim_mean` does.

  Args:
    scores: one array `(runs, ...)` per task.

  Returns:
    The trailing shape.
  """
  pooled = np.sort(np.concatenate(_checked(scores)), axis=0)
  cut = len(pooled) // 4
  return pooled[cut : len(pooled) - cut].mean(axis=0)


def mean(scores: Scores) -> np.ndarray:
  """Mean of the tasks' means.

  Args:
    scores: one array `(runs, ...)` per task.

  Returns:
    The trailing shape.
  """
  return _task_means(scores).mean(axis=0)


def median(scores: Scores) -> np.ndarray:
  """Median of the tasks' means.

  Args:
    scores: one array `(runs, ...)` per task.

  Returns:
    The trailing shape.
  """
  return np.median(_task_means(scores), axis=0)


def optimality_gap(scores: Scores, target: float = 1.0) -> np.ndarray:
  """By how much runs stay below a target, averaged over tasks.

  Less is better.

  Args:
    scores: one array `(runs, ...)` per task.
    target: scores above it count as the target.

  Returns:
    The trailing shape.
  """
  return target - mean([np.minimum(x, target) for x in _checked(scores)])


def performance_profile(scores: Scores, thresholds: np.ndarray) -> np.ndarray:
  """Share of runs that score above each threshold, averaged over tasks.

  Args:
    scores: one array `(runs, ...)` per task.
    thresholds: `(k,)`.

  Returns:
    The trailing shape, then `(k,)`; in [0, 1].
  """
  return mean([x[..., None] > thresholds for x in _checked(scores)])


def probability_of_improvement(x: Scores, y: Scores) -> np.ndarray:
  """Probability that a run of X scores above one of Y, averaged over tasks.

  Ties count half: in each task it is the Mann-Whitney U statistic divided by
  its maximum.

  Args:
    x: scores of the one algorithm, one array `(runs, ...)` per task.
    y: scores of the other in the same tasks, in the same order.

  Returns:
    The trailing shape; in [0, 1].

  Raises:
    ValueError: the two do not have the same number of tasks.
  """
  per_task = []
  for a, b in zip(_checked(x), _checked(y), strict=True):
    difference = a[:, None] - b[None, :]
    wins = (difference > 0) + 0.5 * (difference == 0)
    per_task.append(wins.mean(axis=(0, 1)))
  return np.mean(per_task, axis=0)


def area_under_curve(steps: np.ndarray, returns: np.ndarray) -> np.ndarray:
  """Area under learning curves by trapezoids, divided by the axis' length.

  Args:
    steps: `(points,)` ascending, at least two, in any unit.
    returns: `(..., points)`.

  Returns:
    The leading shape, in the unit of `returns`: the mean over the axis.

  Raises:
    ValueError: there are fewer than two points, or they do not ascend.
  """
  steps = np.asarray(steps, float)
  if len(steps) < 2 or not (np.diff(steps) > 0).all():
    raise ValueError('an area needs two or more ascending steps')
  area = np.trapezoid(np.asarray(returns, float), steps, axis=-1)
  return area / (steps[-1] - steps[0])


def bootstrap(
  statistic: Callable[..., np.ndarray],
  *scores: Scores,
  replicates: int = 2000,
  seed: int = 0,
) -> np.ndarray:
  """A statistic of resampled runs: the stratified bootstrap.

  Each replicate draws as many runs as there are from each task, with
  replacement. A run is drawn with all its trailing axes, so that the points of
  a curve stay together.

  Args:
    statistic: one of this module, or another that reduces the runs' axis and
      keeps the trailing axes; other arguments are bound by a lambda.
    *scores: arguments of the statistic, resampled independently.
    replicates: their number.
    seed: of the random numbers.

  Returns:
    `(replicates, ...)` with the shape of the statistic.
  """
  checked = [_checked(s) for s in scores]
  size = sum(x.size for s in checked for x in s)
  block = max(1, _BLOCK // size)
  rng = np.random.default_rng(seed)
  results = []
  for start in range(0, replicates, block):
    count = min(block, replicates - start)
    # The replicates become the first of the trailing axes.
    resampled = (
      [x[rng.integers(len(x), size=(len(x), count))] for x in s]
      for s in checked
    )
    results.append(statistic(*resampled))
  return np.concatenate(results)


def interval(
  statistic: Callable[..., np.ndarray],
  *scores: Scores,
  level: float = 0.95,
  replicates: int = 2000,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """A confidence interval: the percentiles of the stratified bootstrap.

  Args:
    statistic: as `bootstrap` takes it.
    *scores: as `bootstrap` takes them.
    level: confidence level, in (0, 1).
    replicates: of the bootstrap.
    seed: of the random numbers.

  Returns:
    The lower and the upper ends, each with the shape of the statistic.
  """
  values = bootstrap(statistic, *scores, replicates=replicates, seed=seed)
  tail = (1 - level) / 2
  low, high = np.quantile(values, [tail, 1 - tail], axis=0)
  return low, high


def _checked(scores: Scores) -> list[np.ndarray]:
  """The scores as float arrays; refuses tasks without runs, and NaN."""
  arrays = [np.asarray(x, float) for x in scores]
  if not arrays or not all(x.ndim and len(x) for x in arrays):
    raise ValueError('scores need a task, and every task a run')
  if not all(np.isfinite(x).all() for x in arrays):
    raise ValueError('scores must be finite')
  return arrays


def _task_means(scores: Scores) -> np.ndarray:
  return np.stack([x.mean(axis=0) for x in _checked(scores)])
