"""Makes a figure of the paper: trains missing runs, draws and compares.

    python -m launch.reproduce --figure=1 --scale=cpu
    python -m launch.reproduce --figure=3 --scale=full --dry_run

Figure 1: return, Q-bias and weight norms; 2: scaling with the UTD; 3: the
comparison with published returns. The same command continues what was stopped.
docs/reproduce.md lists the runs of each figure and scale.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from mjx_crossq.config import Config, ConfigError
from mjx_crossq.launch import cli, drawing, path_flags
from mjx_crossq.launch.jobs import (
  backends,
  estimate,
  experiments,
  jobs,
  supervision,
)
from mjx_crossq.results import comparison, curves, figures, summaries

_FIGURE = flags.DEFINE_enum(
  'figure', None, ['1', '2', '3'], "number of the paper's figure"
)
_SCALE = flags.DEFINE_enum(
  'scale',
  'smoke',
  ['smoke', 'cpu', 'full'],
  "minutes on a CPU, an hour or so, or the paper's protocol",
)
_TASKS = flags.DEFINE_list(
  'tasks', [], "tasks, or paper, benchmarking, all (the figure's)"
)
_SEEDS = flags.DEFINE_integer('seeds', None, "how many (the scale's)")
_ENV_STEPS = flags.DEFINE_integer(
  'env_steps',
  None,
  "budget per seed (the scale's); it may be raised later to continue the runs",
)
_PRESETS = flags.DEFINE_list(
  'presets', [], "which of the figure's presets to run (all)"
)
_WORKDIR = path_flags.define(
  'workdir', None, 'folder of the runs (runs/reproduce-<scale>)'
)
_OUTPUT = path_flags.define(
  'output', None, 'folder of pictures and tables (<workdir>/figure<N>)'
)
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'print the runs, their cost and progress, and stop'
)
_BENCHMARK = path_flags.define_list(
  'benchmark',
  [],
  'dry_run: files of launch.benchmark --json with the speeds',
)
_REPLICATES = flags.DEFINE_integer(
  'replicates', 2000, 'bootstrap replicates of the intervals', 10
)

# The paper's figure 3 compares its own method with these.
_BASELINES = ('BRO_utd10', 'SAC_utd32_resets')
# Its figure 1 has the first four; the effective learning rate explains them.
_SERIES = (
  'diag/q_bias_mean',
  'diag/q_bias_std',
  'diag/critic_weight_norm',
  'diag/critic_effective_lr',
)


def main() -> None:
  """Reads the flags, trains the missing runs, and draws all of them."""
  number = int(cli.needed(_FIGURE))
  if _BENCHMARK.value and not _DRY_RUN.value:
    raise ConfigError('--benchmark is for --dry_run; add that flag')
  changes = {'num_seeds': _SEEDS.value, 'env_steps': _ENV_STEPS.value}
  runs = experiments.runs(
    number,
    _SCALE.value,
    cli.expand_tasks(_TASKS.value) if _TASKS.value else (),
    _PRESETS.value,
    **{name: value for name, value in changes.items() if value is not None},
  )
  workdir = Path(_WORKDIR.value or f'runs/reproduce-{_SCALE.value}')
  rows = estimate.read(_BENCHMARK.value)
  found = jobs_of(runs, workdir, cli.cache_flags())
  from mjx_crossq.launch.jobs import costs  # loads JAX

  if _DRY_RUN.value:
    costs.report(found, rows)
    return
  cli.compute_on_cpu()  # this process draws; an accelerator is for the jobs
  output = Path(_OUTPUT.value or workdir / f'figure{number}')
  costs.check(job.config for job in found if jobs.progress(job).state != 'done')
  _make_folders(workdir, output)
  # A process at a time, which has the whole device and shows its output.
  engine = backends.Local(start=functools.partial(jobs.start, logged=False))
  failed = supervision.supervise(found, engine, retries=0)
  draw(number, found, output, _REPLICATES.value)
  if failed:
    print('failed: ' + '; '.join(failed))
    print('the same command starts them again, and nothing that is complete')
    raise SystemExit(1)


def jobs_of(
  runs: Sequence[Config], workdir: Path, extra: Sequence[str] = ()
) -> list[jobs.Job]:
  """The job of each run.

  Args:
    runs: of a figure.
    workdir: folder of the runs of all figures.
    extra: more flags of each run's program.
  """
  extra = tuple(extra)
  return [jobs.Job(c, workdir, jobs.short_name(c), extra) for c in runs]


def _make_folders(*folders: Path) -> None:
  for folder in folders:
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise ConfigError(f'cannot write to {folder}: {error.strerror}') from None


def draw(
  number: int, found: Sequence[jobs.Job], output: Path, replicates: int
) -> None:
  """Draws the figure and writes tables of the runs that have evaluations.

  Args:
    number: the paper's.
    found: the jobs of all its runs.
    output: where the files go.
    replicates: of the bootstrap.

  Raises:
    ConfigError: no run has an evaluation.
  """
  read = []
  for job in found:
    try:
      run = curves.Run.read(job.folder)
      run.returns()
      read.append(run)
    except ConfigError as error:
      print(f'left out: {error}')
  if not read:
    raise ConfigError('no run has an evaluation yet, so nothing is drawn')
  ours = curves.evaluations(read)
  tasks = [
    task
    for task in dict.fromkeys(job.config.task for job in found)
    if any(task in by_task for by_task in ours.values())
  ]
  everything = dict(ours)
  if number == 3:
    everything |= drawing.published(_BASELINES)
  shown = drawing.selected(everything, tasks, ours)

  series = {'return': ours}
  drawn = {}
  shared = summaries.common_tasks(ours)
  common = [task for task in tasks if task in shared]
  if number == 1:
    logged = curves.diagnostics(read, _SERIES)
    series |= {name: logged[name] for name in _SERIES if name in logged}
    drawn['diagnostics'] = figures.diagnostics(series, tasks)
  else:
    # A published algorithm that lacks a task has panels, but no aggregate.
    pooled, compared, step = drawing.aggregates(
      {
        label: {task: by_task[task] for task in common}
        for label, by_task in shown.items()
        if common and all(task in by_task for task in common)
      },
      None,
      replicates,
    )
    drawn['tasks'] = figures.task_grid(shown, tasks, pooled)
    if pooled:
      drawn['aggregate'] = figures.aggregate(shown, pooled, compared, step)
  drawing.save(drawn, output / 'figure')
  texts = drawing.tables(ours, tasks, replicates)
  for name, text in (texts | {'points.csv': comparison.points(series)}).items():
    (output / name).write_text(text, encoding='utf-8')
    print(f'wrote {output / name}')


def run() -> None:
  """Entry point."""
  cli.run_jobs(main, __doc__)


if __name__ == '__main__':
  run()
