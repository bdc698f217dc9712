"""Writes runs to one HTML page that needs no network and no other file.

python -m launch.report --workdirs='runs/*' --output=report.html
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq.config import ConfigError
from mjx_crossq.launch import cli, drawing, path_flags
from mjx_crossq.results import curves, figures, report
from mjx_crossq.results.axes import AXES, Axis

_WORKDIRS = path_flags.define_list(
  'workdirs', [], 'folders of runs, or patterns such as runs/*'
)
_BASELINES = flags.DEFINE_list(
  'baselines', [], 'published algorithms (docs/baselines.md), or all'
)
_OUTPUT = path_flags.define('output', 'report.html', 'the page')
_X = flags.DEFINE_enum(
  'x',
  'env_steps',
  list(AXES),
  'what the curves are drawn over; wall: minutes of training and evaluation',
)
_TITLE = flags.DEFINE_string('title', 'mjx_crossq: runs', 'its title')
_REPLICATES = flags.DEFINE_integer(
  'replicates', 500, 'bootstrap replicates of the intervals', 10
)


def main() -> None:
  """Reads the flags, draws everything, then writes the page."""
  output = Path(_OUTPUT.value)
  if output.suffix not in ('.html', '.htm'):
    raise ConfigError(f'--output={output} must end in .html')
  if not output.parent.is_dir():
    raise ConfigError(f'{output.parent} is not a folder; create it first')
  axis = drawing.axis(_X.value, _BASELINES.value)
  runs = drawing.runs(cli.needed(_WORKDIRS))
  labels = curves.labels(runs)
  ours = curves.evaluations(runs, axis)
  tasks = sorted({task for by_task in ours.values() for task in by_task})
  pairs = list(zip(runs, labels, strict=True))
  sections = {
    'Runs': report.overview(runs, labels),
    'Returns': _returns(ours, tasks, axis),
    'Videos': ''.join(report.videos(run) for run in runs),
    'Diagnostics': _series(runs, ours, tasks, axis, 'diag/*', 'train/*'),
    'System': _series(runs, ours, tasks, axis, 'time/*_per_second'),
    'Configuration': ''.join(report.configuration(*pair) for pair in pairs),
  }
  try:
    output.write_text(report.page(_TITLE.value, sections), encoding='utf-8')
  except OSError as error:
    raise ConfigError(f'cannot write {output}: {error.strerror}') from None
  print(f'wrote {output}, {output.stat().st_size / 2**20:.1f} MiB')


def _returns(ours: dict[str, Any], tasks: Sequence[str], axis: Axis) -> str:
  """The curves of each task, of each seed, and of all tasks pooled."""
  everything = ours | drawing.published(_BASELINES.value)
  shown = drawing.selected(everything, tasks, ours)
  pooled, compared, step = drawing.aggregates(
    shown, None, _REPLICATES.value, axis
  )
  found = report.figure(
    figures.task_grid(shown, tasks, pooled, axis),
    f'Return over {axis.label} in {", ".join(tasks)}.',
  )
  found += report.figure(
    figures.seeds(ours, tasks, axis),
    f'Return over {axis.label}, a line for each seed.',
  )
  if pooled:
    found += report.figure(
      figures.aggregate(shown, pooled, compared, step, axis),
      'Returns pooled over all tasks, with intervals.',
    )
  return found


def _series(
  runs: Sequence[Any],
  ours: Mapping,
  tasks: Sequence[str],
  axis: Axis,
  *patterns: str,
) -> str:
  """A figure of logged series, a row for each."""
  series = {
    name: labelled
    for name, labelled in curves.diagnostics(runs, patterns, axis).items()
    if name not in drawing.COUNTS and labelled
  }
  if not series:
    return ''
  # The legend is made from the first series, so it must have every label.
  drawn = figures.diagnostics({'eval/return': ours} | series, tasks, axis)
  return report.figure(drawn, f'{", ".join(series)} over {axis.label}.')


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
