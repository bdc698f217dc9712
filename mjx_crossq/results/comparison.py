"""The IQM of our runs beside published ones at the same env steps."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mjx_crossq.results import summaries
from mjx_crossq.results.curves import Curves, LabelledCurves

# Env steps at which runs are compared, as far as our runs reach.
STEPS = (25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)


@dataclasses.dataclass(frozen=True)
class Row:
  """One IQM of the comparison.

  Attributes:
    env_step: the env step at which runs are compared.
    tasks: the task, or a title for the pooled ones.
    label: name of the runs.
    published: whether the runs were published by others.
    runs: their number over all tasks.
    iqm: interquartile mean of return / 1000 over runs (and tasks).
    low: lower end of its 95 % bootstrap interval.
    high: upper end.
    between: whether the env step is between two evaluations, so that returns
      are interpolated.
  """

  env_step: int
  tasks: str
  label: str
  published: bool
  runs: int
  iqm: float
  low: float
  high: float
  between: bool


def rows(
  ours: LabelledCurves,
  published: LabelledCurves,
  groups: Mapping[str, Sequence[str]],
  replicates: int = 2000,
) -> list[Row]:
  """Compares at `STEPS` and at the last env step that all of our runs reach.

  A label is left out if a task of the group is missing, or if its evaluations
  do not enclose the env step: nothing is extrapolated.

  Args:
    ours: returns of our runs by label and task.
    published: returns of published runs.
    groups: tasks to pool, by title.
    replicates: of the stratified bootstrap.
  """
  found = []
  for title, tasks in groups.items():
    having = {k: v for k, v in ours.items() if all(t in v for t in tasks)}
    if not having:
      continue
    last = int(summaries.last_common_step(having, tasks))
    for step in sorted({*(s for s in STEPS if s < last), last}):
      for labelled, is_published in ((ours, False), (published, True)):
        covering = {
          label: by_task
          for label, by_task in labelled.items()
          if all(t in by_task and _covers(by_task[t], step) for t in tasks)
        }
        for label, aggregate in summaries.compare(
          covering, tasks, step, replicates
        ).items():
          grids = [covering[label][task].steps for task in tasks]
          between = any(step not in grid for grid in grids)
          found.append(
            Row(
              step,
              title,
              label,
              is_published,
              aggregate.runs,
              *aggregate.values['IQM'],
              between,
            )
          )
  return found


def to_csv(found: Iterable[Row]) -> str:
  """The rows as CSV with a header."""
  return _csv(
    [field.name for field in dataclasses.fields(Row)],
    (
      [
        f'{x:.4f}' if isinstance(x, float) else x
        for x in dataclasses.astuple(row)
      ]
      for row in found
    ),
  )


def to_markdown(found: Sequence[Row]) -> str:
  """A table per env step, with a row per label, a column per task or group."""
  parts = [
    'IQM of return / 1000 over runs with its 95 % bootstrap interval and the '
    'number of runs. `~`: interpolated linearly between two evaluations. '
    'docs/baselines.md says where published numbers come from.'
  ]
  for step in sorted({row.env_step for row in found}):
    here = [row for row in found if row.env_step == step]
    labels = list(
      dict.fromkeys(r.label for r in sorted(here, key=lambda r: r.published))
    )
    cells = {(row.tasks, row.label): _cell(row) for row in here}
    tasks = list(dict.fromkeys(row.tasks for row in here))
    lines = (
      [label, *(cells.get((task, label), '-') for task in tasks)]
      for label in labels
    )
    parts.append(f'## {step:,} env steps')
    parts.append(summaries.markdown(['', *tasks], lines))
  return '\n\n'.join(parts) + '\n'


def points(series: Mapping[str, LabelledCurves]) -> str:
  """The data of a figure as CSV, with a row for each point of each run.

  Args:
    series: curves by name, label and task.
  """
  return _csv(
    ('series', 'label', 'task', 'run', 'env_step', 'value'),
    (
      (name, label, task, run, f'{step:.0f}', f'{value:.6g}')
      for name, labelled in series.items()
      for label, by_task in labelled.items()
      for task, curves in by_task.items()
      for run, values in enumerate(curves.values)
      for step, value in zip(curves.steps, values, strict=True)
    ),
  )


def _csv(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(header)
  writer.writerows(lines)
  return text.getvalue()


def _covers(curves: Curves, step: float) -> bool:
  return bool(curves.steps[0] <= step <= curves.steps[-1])


def _cell(row: Row) -> str:
  about = '~' if row.between else ''
  return f'{about}{row.iqm:.3f} ({row.low:.3f}-{row.high:.3f}; {row.runs})'
