"""The numbers of the figures: bands over seeds and tasks, comparisons."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mjx_crossq.config import ConfigError
from mjx_crossq.results import statistics
from mjx_crossq.results.axes import ENV_STEPS, Axis
from mjx_crossq.results.curves import Curves, LabelledCurves, common_steps

# The highest return of an episode of the DeepMind Control Suite.
MAX_RETURN = 1000.0

AGGREGATES = {
  'IQM': statistics.iqm,
  'median': statistics.median,
  'mean': statistics.mean,
  'optimality gap': statistics.optimality_gap,
}


@dataclasses.dataclass(frozen=True)
class Band:
  """A line with a range around it, each `(points,)`.

  Attributes:
    steps: env steps.
    middle: the line.
    low: lower end of the range.
    high: upper end of the range.
  """

  steps: np.ndarray
  middle: np.ndarray
  low: np.ndarray
  high: np.ndarray


@dataclasses.dataclass(frozen=True)
class Aggregate:
  """Statistics of a label at one env step.

  Attributes:
    runs: their number over all tasks.
    values: `(value, low, high)` by the names in `AGGREGATES`, of return / 1000;
      the last two are the 95 % interval.
  """

  runs: int
  values: dict[str, tuple[float, float, float]]


def over_seeds(curves: Curves) -> Band:
  """IQM over the runs, and their 5 % and 95 % quantiles.

  Args:
    curves: of one label in one task.
  """
  low, high = np.quantile(curves.values, [0.05, 0.95], axis=0)
  return Band(curves.steps, statistics.iqm([curves.values]), low, high)


def over_tasks(tasks: Mapping[str, Curves], replicates: int = 2000) -> Band:
  """IQM of return / 1000 over tasks and runs, with its 95 % interval.

  The tasks are interpolated to the grid of `curves.common_steps`.

  Args:
    tasks: returns of one label by task.
    replicates: of the stratified bootstrap.
  """
  steps = common_steps(tasks.values())
  scores = [c.at(steps).values / MAX_RETURN for c in tasks.values()]
  low, high = statistics.interval(statistics.iqm, scores, replicates=replicates)
  return Band(steps, statistics.iqm(scores), low, high)


def common_tasks(curves: LabelledCurves) -> list[str]:
  """Tasks that every label has, in the order of the first label's."""
  first, *others = curves.values()
  return [t for t in first if all(t in tasks for tasks in others)]


def last_common_step(curves: LabelledCurves, tasks: Sequence[str]) -> float:
  """The last env step that every label reaches in all tasks."""
  return min(curves[label][t].steps[-1] for label in curves for t in tasks)


def compare(
  curves: LabelledCurves,
  tasks: Sequence[str],
  step: float,
  replicates: int = 2000,
  axis: Axis = ENV_STEPS,
) -> dict[str, Aggregate]:
  """Statistics of every label at one env step, linear between evaluations.

  Args:
    curves: returns by label and task.
    tasks: tasks that every label has.
    step: the env step, or another x.
    replicates: of the stratified bootstrap of the 95 % intervals.
    axis: that the curves are given over.

  Raises:
    ConfigError: a label was not evaluated before and after that step.
  """
  found = {}
  for label, by_task in curves.items():
    scores = []
    for task in tasks:
      first, last = by_task[task].steps[[0, -1]]
      if not first <= step <= last:
        raise ConfigError(
          f'{label} has {axis.text(first)} to {axis.text(last)} of {task}, not '
          f'{axis.text(step)}; choose another --at_step or leave it out'
        )
      scores.append(by_task[task].at(np.array([step])).values[:, 0])
    scores = [x / MAX_RETURN for x in scores]
    values = {}
    for name, statistic in AGGREGATES.items():
      ends = statistics.interval(statistic, scores, replicates=replicates)
      values[name] = tuple(float(x) for x in (statistic(scores), *ends))
    found[label] = Aggregate(sum(map(len, scores)), values)
  return found


def table(compared: Mapping[str, Aggregate]) -> str:
  """The comparison as Markdown with one row per label.

  Args:
    compared: as `compare` returns it.
  """
  header = ['', 'runs', *(f'{name} (95 % interval)' for name in AGGREGATES)]
  rows = (
    [
      label,
      str(aggregate.runs),
      *(
        f'{value:.3f} ({low:.3f}-{high:.3f})'
        for value, low, high in aggregate.values.values()
      ),
    ]
    for label, aggregate in compared.items()
  )
  return markdown(header, rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
  """A Markdown table.

  Args:
    header: one cell per column.
    rows: likewise.
  """
  lines = [header, ['---'] * len(header), *rows]
  text = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
  return text.replace('|  |', '| |')
