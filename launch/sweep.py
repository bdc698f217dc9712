r"""Trains a grid of settings, or one setting's seeds, as several jobs.

    python -m launch.sweep --workdir=runs/sweep \
      --grid="task=cartpole-swingup,walker-walk preset=crossq_wn,sac utd=1,10"
    python -m launch.sweep --workdir=runs/seeds --backend=slurm \
      --grid="task=humanoid-run num_seeds=64" --seeds_per_job=8
    python -m launch.sweep --workdir=runs/sweep --file=sweep.yaml --status

Every field of the configuration may be an axis of the grid. Only what is
missing or unfinished is trained, so the same command continues a sweep that was
stopped. docs/sweep.md explains it.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq.config import Config, ConfigError, one_of
from mjx_crossq.host.workdir import locked
from mjx_crossq.launch import cli, path_flags
from mjx_crossq.launch.jobs import (
  backends,
  cloud,
  devices,
  estimate,
  grid,
  jobs,
  merging,
  supervision,
)

BACKENDS = ('local', 'slurm', 'ray', 'skypilot')

_GRID = flags.DEFINE_string(
  'grid', None, "axes, such as 'task=walker-run,fish-swim utd=1,10 num_seeds=5'"
)
_FILE = path_flags.define('file', None, 'YAML file with the axes as keys')
_WORKDIR = path_flags.define('workdir', None, 'folder of the runs')
_BACKEND = flags.DEFINE_enum(
  'backend', None, BACKENDS, 'where the jobs run (local)'
)
_OPTION = flags.DEFINE_multi_string(
  'option', [], 'key=value for the backend; repeatable'
)
_PARALLEL = flags.DEFINE_integer(
  'parallel', 1, 'local: processes at a time, GPUs dealt out in turn', 1
)
_SEEDS_PER_JOB = flags.DEFINE_integer(
  'seeds_per_job',
  None,
  'seeds of a job at most; a cell with more is divided into blocks of seeds '
  '(as many as fit --memory_gib)',
  1,
)
_MEMORY_GIB = flags.DEFINE_float(
  'memory_gib',
  None,
  "memory of a job's device, which limits the seeds of a job (local: that of "
  'the device; elsewhere: no limit)',
  1e-9,
)
_RETRIES = flags.DEFINE_integer(
  'retries',
  2,
  'how often a job that fails without progress is started again',
  0,
)
_STATUS = flags.DEFINE_bool('status', False, 'print the progress, and stop')
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'print the jobs, their memory and cost, and stop'
)
_BENCHMARK = path_flags.define_list(
  'benchmark', [], 'dry_run: files of launch.benchmark --json with the speeds'
)
_DEVICES = flags.DEFINE_multi_integer(
  'devices',
  None,
  'dry_run: print hours for so many devices that run one job each; repeatable',
  1,
)
_PRICE = flags.DEFINE_float(
  'price', None, 'dry_run: price of a device for an hour', 0.0
)
_OUTPUT = path_flags.define(
  'output', None, "skypilot: folder of the files (<workdir>'s name + -tasks)"
)
_ALLOW_UNFAITHFUL = flags.DEFINE_bool(
  'allow_unfaithful', False, 'train on tasks that differ from stock'
)


def main() -> None:
  """Reads the flags, and runs what is missing."""
  axes, settings = _asked()
  if not settings.get('workdir'):
    raise ConfigError('--workdir is needed: the folder of the runs')
  for flag in (_BENCHMARK, _DEVICES, _PRICE):
    if flag.value and not _DRY_RUN.value:
      raise ConfigError(f'--{flag.name} is for --dry_run; add that flag')
  if _DEVICES.value and not _BENCHMARK.value:
    raise ConfigError('--devices needs speeds; give --benchmark')
  if _PRICE.value and not _DEVICES.value:
    raise ConfigError('--price is of --devices; add that flag')
  rows = estimate.read(_BENCHMARK.value)
  workdir = Path(settings['workdir']).absolute()
  cells = grid.cells(axes)
  plan = grid.Plan(workdir)
  extra = ['--allow_unfaithful'] * _ALLOW_UNFAITHFUL.value + cli.cache_flags()
  most = settings.get('seeds_per_job')
  undecided = plan.undecided(cells, most)
  if _STATUS.value:
    if most:
      plan.decide({c: grid.blocks_needed(c, most) for c in undecided})
    print(supervision.status_table(_jobs(plan, cells, extra)))
    return
  slots: Sequence[Mapping[str, str]] = []
  room = devices.Room(None, 1)
  if settings['backend'] == 'local':
    machine = devices.Devices.probe()
    slots = machine.slots(_PARALLEL.value)
    room = machine.room(_PARALLEL.value)
  if _MEMORY_GIB.value:
    room = room._replace(memory=int(_MEMORY_GIB.value * 2**30))
  _decide(plan, undecided, cells, most, room)
  found = _jobs(plan, cells, extra)
  if _DRY_RUN.value:
    _print_costs(found, cells, rows)
    return
  failed = []
  if settings['backend'] == 'skypilot':
    output = Path(_OUTPUT.value or f'{workdir}-tasks')
    missing = [job for job in found if jobs.progress(job).state != 'done']
    for line in cloud.write(
      missing, output, settings['options'], _RETRIES.value
    ):
      print(line)
  with locked(workdir):
    plan.write()
    if settings['backend'] != 'skypilot':
      engine = _engine(workdir, settings, slots)
      failed = supervision.supervise(found, engine, _RETRIES.value)
      print(supervision.status_table(found))
    _merge(plan, cells)
  if failed:
    print('failed: ' + '; '.join(failed))
    print('the same command starts them again, and nothing that is done')
    raise SystemExit(1)


def _jobs(
  plan: grid.Plan, cells: Sequence[Config], extra: Sequence[str]
) -> list[jobs.Job]:
  return [job for cell in cells for job in plan.jobs_of(cell, extra)]


def _print_costs(
  found: Sequence[jobs.Job],
  cells: Sequence[Config],
  rows: Sequence[estimate.Row],
) -> None:
  from mjx_crossq.launch.jobs import costs  # loads JAX

  unfaithful = _ALLOW_UNFAITHFUL.value
  costs.report(found, rows, unfaithful, here=False)
  if _DEVICES.value:
    memory = int((_MEMORY_GIB.value or 0) * 2**30)
    costs.report_devices(
      cells, rows, _DEVICES.value, memory, _PRICE.value, unfaithful
    )


def _decide(
  plan: grid.Plan,
  undecided: Sequence[Config],
  cells: Sequence[Config],
  seeds_per_job: int | None,
  room: devices.Room,
) -> None:
  """Checks what is not done, and divides what no earlier start divided."""
  from mjx_crossq.launch.jobs import costs  # loads JAX

  cli.compute_on_cpu()  # the accelerators are for the jobs
  done = [
    cell
    for cell in cells
    if cell not in undecided
    and all(jobs.progress(job).state == 'done' for job in plan.jobs_of(cell))
  ]
  costs.check(
    [cell for cell in cells if cell not in done], _ALLOW_UNFAITHFUL.value
  )
  budgets = {}
  if room.memory:
    budgets = costs.budgets_of(undecided, _ALLOW_UNFAITHFUL.value)
  counts = {}
  for cell in undecided:
    most = seeds_per_job or cell.num_seeds
    if room.memory:
      fit = grid.seeds_that_fit(cell, budgets[cell].total, room.memory)
      most = min(most, fit * room.devices)
    counts[cell] = grid.blocks_needed(cell, most)
  plan.decide(counts)


def _merge(plan: grid.Plan, cells: Sequence[Config]) -> None:
  """Merges the records of divided cells whose jobs are all done."""
  for cell in cells:
    blocks = plan.jobs_of(cell)
    if len(blocks) > 1 and all(
      jobs.progress(job).state == 'done' for job in blocks
    ):
      folder = blocks[0].folder.parent
      if merging.merge(folder, cell, blocks):
        print(f'merged {len(blocks)} blocks of seeds in {folder}')


def _asked() -> tuple[dict[str, list[Any]], dict[str, Any]]:
  """Axes and settings of the file, overridden by those of the flags."""
  axes: dict[str, list[Any]] = {}
  settings: dict[str, Any] = {}
  if _FILE.value:
    axes, settings = grid.read(_FILE.value)
  if _GRID.value is not None:
    axes |= grid.parse(_GRID.value)
  if not axes:
    raise ConfigError("--grid='field=value,value ...' or --file is needed")
  for flag in (_WORKDIR, _BACKEND, _SEEDS_PER_JOB):
    if flag.value is not None:
      settings[flag.name] = flag.value
  if settings.get('seeds_per_job', 1) < 1:
    raise ConfigError('seeds_per_job must be at least 1')
  backend = settings.setdefault('backend', 'local')
  one_of('backend', backend, BACKENDS)
  options = dict(settings.get('options', {}))
  for text in _OPTION.value:
    name, equals, value = text.partition('=')
    if not equals:
      raise ConfigError(f'--option={text}: write it as key=value')
    options[name] = _plain(value)
  if options and backend == 'local':
    raise ConfigError(
      f'the backend local has no options such as {next(iter(options))}; '
      'choose another --backend'
    )
  settings['options'] = options
  return axes, settings


def _plain(text: str) -> Any:
  """The JSON value that a text states, or else the text."""
  try:
    return json.loads(text)
  except ValueError:
    return text


def _engine(
  workdir: Path,
  settings: Mapping[str, Any],
  slots: Sequence[Mapping[str, str]],
) -> backends.Backend:
  if settings['backend'] == 'slurm':
    return backends.Slurm(workdir / 'logs' / 'slurm', settings['options'])
  if settings['backend'] == 'ray':
    return backends.Ray(settings['options'])
  return backends.Local(slots)


def run() -> None:
  """Entry point."""
  cli.run_jobs(main, __doc__)


if __name__ == '__main__':
  run()
