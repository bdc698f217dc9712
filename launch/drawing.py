"""Selects, pools and compares curves for the programs that draw them."""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mjx_crossq.config import ConfigError
from mjx_crossq.results import baselines, comparison, plotting, summaries
from mjx_crossq.results.axes import AXES, ENV_STEPS, Axis
from mjx_crossq.results.curves import Run

if TYPE_CHECKING:
  from matplotlib.figure import Figure


COUNTS = (
  'train/updates',
  'train/actor_updates',
  'train/env_faults',
  'train/contacts_dropped',
  'train/solver_capped',
  'train/frozen',
)
"""Series that do not show learning; drawn only if they are named."""


def axis(name: str, published_names: Sequence[str]) -> Axis:
  """The x axis that `--x` chooses.

  Args:
    name: of the axis.
    published_names: the algorithms of `--baselines`.

  Raises:
    ConfigError: published curves are to be drawn over something else than
      env steps, which is all that is known of them.
  """
  if published_names and name != 'env_steps':
    raise ConfigError(
      f'--x={name}: published returns are known by env steps only; leave '
      '--baselines out'
    )
  return AXES[name]


def runs(patterns: Sequence[str]) -> list[Run]:
  """The runs in some folders.

  Args:
    patterns: folders, or patterns with a *.

  Raises:
    ConfigError: a pattern matches nothing, or a folder holds no run.
  """
  folders: list[str] = []
  for pattern in patterns:
    found = sorted(glob.glob(pattern)) if '*' in pattern else [pattern]
    if not found:
      raise ConfigError(f'--workdirs={pattern} matches no folder')
    folders += found
  read = [Run.read(folder) for folder in dict.fromkeys(folders)]
  for run in read:
    if count := run.broken():
      print(
        f'left out: {count} evaluation(s) of a seed in {run.workdir} whose '
        'returns are not finite'
      )
  return read


def best(ours: Mapping) -> list[str]:
  """The best published algorithms, of those that have all tasks of some runs.

  Args:
    ours: curves by label and task.
  """
  tasks = {task for by_task in ours.values() for task in by_task}
  return [n for n in baselines.BEST if tasks and tasks <= {*baselines.load(n)}]


def published(names: Sequence[str]) -> dict[str, Any]:
  """Published curves by label and task.

  Args:
    names: algorithms, as docs/baselines.md has them; 'all' alone for all.

  Raises:
    ConfigError: there is no such algorithm.
  """
  if names == ['all']:
    names = baselines.algorithms()
  return {published_label(name): baselines.load(name) for name in names}


def published_label(name: str) -> str:
  """An algorithm such as BRO_utd10 as a legend shows it."""
  name = re.sub(r'_utd(\d+)', r', UTD \1', name).replace('_', ', ')
  return f'{name}, published'


def selected(
  everything: Mapping, tasks: Sequence[str], ours: Mapping
) -> dict[str, dict[str, Any]]:
  """The tasks' curves by label; published ones are cut where the runs end.

  Args:
    everything: curves by label and task.
    tasks: which to select.
    ours: the curves that are runs, by label and task.
  """
  shown: dict[str, dict[str, Any]] = {}
  for label, by_task in everything.items():
    shown[label] = {}
    for task in tasks:
      if task not in by_task:
        continue
      ends = [c[task].steps[-1] for c in ours.values() if task in c]
      end = max(ends, default=by_task[task].steps[-1])
      if by_task[task].steps[0] <= end:
        shown[label][task] = by_task[task].until(end)
    missing = [t for t in tasks if t not in shown[label]]
    if missing:
      print(f'no data in the range shown: {label}, {", ".join(missing)}')
  return {label: by_task for label, by_task in shown.items() if by_task}


def groups(tasks: Sequence[str]) -> dict[str, list[str]]:
  """Tasks to pool, by title: all, and dog and humanoid if only some are."""
  if not tasks:
    return {}
  found = {_count(tasks): [*tasks]}
  hard = [t for t in tasks if t.split('-')[0] in ('dog', 'humanoid')]
  if 1 < len(hard) < len(tasks):
    found = {f'dog and humanoid, {_count(hard)}': hard} | found
  return found


def aggregates(
  shown: Mapping,
  step: float | None,
  replicates: int,
  axis: Axis = ENV_STEPS,
) -> tuple[dict, dict, float]:
  """Pools the tasks that all labels have and prints the comparison.

  Args:
    shown: curves by label and task.
    step: env step of the comparison; None for the last one that all reach.
    replicates: of the bootstrap.
    axis: that the curves are given over.

  Returns:
    Pooled curves and comparisons by title, and the step of the latter.
  """
  common = summaries.common_tasks(shown) if shown else []
  if not common:
    print('no task that all have: no aggregate is drawn')
    return {}, {}, 0.0
  if step is None:
    step = summaries.last_common_step(shown, common)
  pooled, compared = {}, {}
  for title, tasks in groups(common).items():
    pooled[title] = {
      label: summaries.over_tasks({t: by_task[t] for t in tasks}, replicates)
      for label, by_task in shown.items()
    }
    compared[title] = summaries.compare(shown, tasks, step, replicates, axis)
    print(f'\n{title}, return / 1000 at {axis.text(step)}:')
    print(summaries.table(compared[title]))
  print()
  return pooled, compared, step


def tables(
  ours: Mapping, tasks: Sequence[str], replicates: int
) -> dict[str, str]:
  """Our returns beside all published ones, as Markdown and CSV, by file name.

  Args:
    ours: curves of our runs by label and task.
    tasks: which to compare; those that all labels have are pooled too.
    replicates: of the bootstrap.
  """
  shared = summaries.common_tasks(ours)
  common = [task for task in tasks if task in shared]
  titles = {task: [task] for task in tasks} | groups(common)
  every = published(baselines.algorithms())
  found = comparison.rows(ours, every, titles, replicates)
  return {
    'table.csv': comparison.to_csv(found),
    'table.md': comparison.to_markdown(found),
  }


def save(drawn: Mapping[str, 'Figure'], stem: Path) -> None:
  """Writes figures as PNG and SVG and prints their paths.

  Args:
    drawn: figures by what is added to the stem.
    stem: what the files' paths begin with.
  """
  files = [
    path
    for name, figure in drawn.items()
    for path in plotting.save(figure, stem.with_name(f'{stem.name}_{name}'))
  ]
  for file in files:
    print(f'wrote {file}')


def _count(tasks: Sequence[str]) -> str:
  return tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'
