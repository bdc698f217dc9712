"""Our IQM beside each published number at the same env steps."""

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence

from mjx_crossq.results import summaries
from mjx_crossq.results.curves import Curves, LabelledCurves

# The env steps at which a table compares, as far as our runs reach.
STEPS = (25_000, 50_000, 100_000, 200_000, 500_000, 1_000_000)


@dataclasses.dataclass(frozen=True)
class Row:
  """A number of the table.

  Attributes:
    env_step: where it was read off.
    tasks: the task, or a title for the pooled ones.
    label: whose it is.
    published: whether it is not ours.
    runs: how many, over all tasks.
    iqm: interquartile mean of return / 1000 over runs (and tasks).
    low: lower end of its 95 % bootstrap interval.
    high: upper end.
    between: whether that is between two evaluations, so read off a line.
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
  """Compares at `STEPS` and at the last env step that ours all reach.

  A label is left out where it lacks a task of the group, or has no points on
  both sides of the env step: nothing is extrapolated.

  Args:
    ours: returns by label and task.
    published: likewise.
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
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(field.name for field in dataclasses.fields(Row))
  for row in found:
    values = dataclasses.astuple(row)
    writer.writerow(f'{x:.4f}' if isinstance(x, float) else x for x in values)
  return text.getvalue()


def to_markdown(found: Sequence[Row]) -> str:
  """A table for each env step: a row a task or group, a column a label."""
  parts = [
    'IQM of return / 1000 over runs (their number) with its 95 % bootstrap '
    'interval. `~`: between two evaluations, read off the line that joins '
    'them. Published numbers are those of docs/baselines.md.'
  ]
  for step in sorted({row.env_step for row in found}):
    here = [row for row in found if row.env_step == step]
    labels = list(
      dict.fromkeys(r.label for r in sorted(here, key=lambda r: r.published))
    )
    cells = {(row.tasks, row.label): _cell(row) for row in here}
    lines = [
      ['', *labels],
      ['---'] * (1 + len(labels)),
      *(
        [tasks, *(cells.get((tasks, label), '-') for label in labels)]
        for tasks in dict.fromkeys(row.tasks for row in here)
      ),
    ]
    parts.append(f'## {step:,} env steps')
    parts.append('\n'.join(f'| {" | ".join(line)} |' for line in lines))
  return '\n\n'.join(parts).replace('|  |', '| |') + '\n'


def points(series: Mapping[str, LabelledCurves]) -> str:
  """What a figure draws, as CSV: a row a run and point.

  Args:
    series: curves by name, label and task.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator='\n')
  writer.writerow(('series', 'label', 'task', 'run', 'env_step', 'value'))
  for name, labelled in series.items():
    for label, by_task in labelled.items():
      for task, curves in by_task.items():
        for run, values in enumerate(curves.values):
          for step, value in zip(curves.steps, values, strict=True):
            writer.writerow(
              (name, label, task, run, f'{step:.0f}', f'{value:.6g}')
            )
  return text.getvalue()


def _covers(curves: Curves, step: float) -> bool:
  return bool(curves.steps[0] <= step <= curves.steps[-1])


def _cell(row: Row) -> str:
  about = '~' if row.between else ''
  return f'{about}{row.iqm:.3f} ({row.low:.3f}-{row.high:.3f}; {row.runs})'
