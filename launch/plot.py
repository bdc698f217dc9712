"""Draws runs beside published ones: tasks, aggregates and diagnostics.

python -m launch.plot --workdirs=runs/a,runs/b --baselines=BRO_utd10 \
  --output=figures/mine
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq import envs
from mjx_crossq.config import ConfigError, one_of
from mjx_crossq.launch import cli, drawing, path_flags
from mjx_crossq.results import curves, figures
from mjx_crossq.results.axes import AXES, Axis

_WORKDIRS = path_flags.define_list(
  'workdirs', [], 'folders of runs, or patterns such as runs/*'
)
_BASELINES = flags.DEFINE_list(
  'baselines',
  None,
  'published algorithms (docs/baselines.md), or all; empty for none (without '
  'the flag, the best that have all tasks of the runs)',
)
_TASKS = flags.DEFINE_list(
  'tasks',
  [],
  'tasks, domains, or paper, benchmarking, all (those of the runs; without '
  'runs, those of the paper)',
)
_OUTPUT = path_flags.define(
  'output', None, "what the paths of the figures' files begin with"
)
_X = flags.DEFINE_enum(
  'x',
  'env_steps',
  list(AXES),
  'what the curves are drawn over; wall: minutes of training and evaluation',
)
_AT_STEP = flags.DEFINE_float(
  'at_step',
  None,
  'env step, or other x, of the comparison (the last that all runs reach)',
  0,
)
_TABLE = flags.DEFINE_bool(
  'table',
  False,
  'also write the returns of the runs beside all published ones',
)
_DIAGNOSTICS = flags.DEFINE_bool(
  'diagnostics', False, 'also draw the series of metrics.jsonl'
)
_SERIES = flags.DEFINE_list(
  'series', ['diag/*', 'train/*'], 'series for --diagnostics, or patterns'
)
_REPLICATES = flags.DEFINE_integer(
  'replicates', 2000, 'bootstrap replicates of the intervals', 10
)


def main() -> None:
  """Reads the flags, computes everything, then writes the files."""
  stem = _stem()
  names = _BASELINES.value
  axis = drawing.axis(_X.value, names or [])
  if _TABLE.value and _X.value != 'env_steps':
    raise ConfigError('--table compares at equal env steps: leave --x out')
  runs = drawing.runs(_WORKDIRS.value)
  if _TABLE.value and not runs:
    raise ConfigError('--table is of runs: give --workdirs')
  ours = curves.evaluations(runs, axis)
  if names is None:
    names = drawing.best(ours) if _X.value == 'env_steps' else []
  everything = ours | drawing.published(names)
  tasks = _tasks(ours, everything)
  shown = drawing.selected(everything, tasks, ours)
  pooled, compared, step = drawing.aggregates(
    shown, _AT_STEP.value, _REPLICATES.value, axis
  )
  series = {}
  if _DIAGNOSTICS.value:
    series = _diagnostics(runs, ours, tasks, axis)

  # Those of the tasks that a run has.
  trained = [t for t in tasks if any(t in by_task for by_task in ours.values())]
  drawn = {'tasks': figures.task_grid(shown, tasks, pooled, axis)}
  if pooled:
    drawn['aggregate'] = figures.aggregate(shown, pooled, compared, step, axis)
  if series:
    drawn['diagnostics'] = figures.diagnostics(series, trained, axis)
  texts = {}
  if _TABLE.value:
    texts = drawing.tables(ours, trained, _REPLICATES.value)
  drawing.save(drawn, stem)
  for name, text in texts.items():
    file = stem.with_name(f'{stem.name}_{name}')
    file.write_text(text, encoding='utf-8')
    print(f'wrote {file}')


def _stem() -> Path:
  """What the files' paths begin with."""
  output = cli.needed(_OUTPUT)
  stem = Path(output)
  if output.endswith('/') or stem.is_dir():
    raise ConfigError(f'--output={stem} is a folder; add a name to it')
  if not stem.parent.is_dir():
    raise ConfigError(f'{stem.parent} is not a folder; create it first')
  return stem


def _tasks(ours: Mapping, everything: Mapping) -> list[str]:
  """The tasks to draw: those of --tasks that have curves."""
  if not everything:
    raise ConfigError('nothing to draw: give --workdirs, --baselines, or both')
  there = sorted({t for by_task in everything.values() for t in by_task})
  if not _TASKS.value:
    default = {t for by_task in ours.values() for t in by_task}
    default = default or {*envs.PAPER_TASKS}
    tasks = [t for t in there if t in default]
  else:
    chosen: set[str] = set()
    for name in _TASKS.value:
      domain = [t for t in there if t.split('-')[0] == name]
      if name in cli.GROUPS:
        chosen |= {*(there if name == 'all' else cli.expand_tasks([name]))}
      elif domain:
        chosen |= {*domain}
      else:
        one_of('task among the runs and baselines', name, there)
        chosen.add(name)
    tasks = [t for t in there if t in chosen]
  if not tasks:
    raise ConfigError(
      f'no run or baseline has any of these tasks; they have {", ".join(there)}'
    )
  return tasks


def _diagnostics(
  runs: Sequence[Any], ours: Mapping, tasks: Sequence[str], axis: Axis
) -> dict[str, Any]:
  """Evaluation returns, and the series that --series chooses."""
  series = {
    name: found
    for name, found in curves.diagnostics(runs, _SERIES.value, axis).items()
    if name not in drawing.COUNTS or name in _SERIES.value
    if any(task in by_task for by_task in found.values() for task in tasks)
  }
  if not series:
    raise ConfigError(
      f'--diagnostics: no run in --workdirs logged {" or ".join(_SERIES.value)}'
    )
  return {'return': ours} | series


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
