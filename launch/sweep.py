r"""Trains a grid of settings: what is missing or unfinished of it.

    python -m launch.sweep --workdir=runs/sweep \
      --grid="task=cartpole-swingup,walker-walk preset=crossq_wn,sac utd=1,10"
    python -m launch.sweep --workdir=runs/sweep --file=sweep.yaml --status

Every field of the configuration may be an axis. The seeds of a cell are one
program; a cell that does not fit the device is divided into blocks of seeds.
The same command again goes on where it was stopped. docs/sweep.md explains it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq.launch import cli

BACKENDS = ('local', 'slurm', 'ray', 'skypilot')

_GRID = flags.DEFINE_string(
  'grid', None, "axes, such as 'task=walker-run,fish-swim utd=1,10 num_seeds=5'"
)
_FILE = flags.DEFINE_string('file', None, 'YAML file with the axes as keys')
_WORKDIR = flags.DEFINE_string('workdir', None, 'folder of the runs')
_BACKEND = flags.DEFINE_enum(
  'backend', None, BACKENDS, 'where the jobs run (local)'
)
_OPTION = flags.DEFINE_multi_string(
  'option', [], 'key=value for the backend; repeatable'
)
_PARALLEL = flags.DEFINE_integer(
  'parallel', 1, 'local: processes at a time, GPUs dealt out in turn', 1
)
_MEMORY_GIB = flags.DEFINE_float(
  'memory_gib',
  None,
  "of a job's device, which decides how many seeds are one job (local: read "
  'off the device; elsewhere: all seeds of a cell)',
  1e-9,
)
_RETRIES = flags.DEFINE_integer(
  'retries', 2, 'further attempts of a job that fails without getting on', 0
)
_STATUS = flags.DEFINE_bool('status', False, 'print how far each is, and stop')
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'print the jobs, their memory and cost, and stop'
)
_BENCHMARK = flags.DEFINE_list(
  'benchmark', [], 'files of launch.benchmark --json that --dry_run counts with'
)
_OUTPUT = flags.DEFINE_string(
  'output', None, "skypilot: folder of the files (<workdir>'s name + -tasks)"
)
_ALLOW_UNFAITHFUL = flags.DEFINE_bool(
  'allow_unfaithful', False, 'train on tasks that differ from stock'
)


def main() -> None:
  """Reads the flags, and runs what is missing."""
  import jax

  from mjx_crossq.config import ConfigError
  from mjx_crossq.host.workdir import locked
  from mjx_crossq.launch.jobs import cloud, devices, estimate, grid, supervision
  from mjx_crossq.launch.jobs import jobs as jobs_lib

  axes, settings = _asked()
  if not settings.get('workdir'):
    raise ConfigError('--workdir is needed: the folder of the runs')
  if _BENCHMARK.value and not _DRY_RUN.value:
    raise ConfigError('--benchmark is for --dry_run; leave it out or add that')
  backend = settings.get('backend', 'local')
  workdir = Path(settings['workdir']).absolute()
  # This process looks on; an accelerator is for the jobs alone.
  jax.config.update('jax_platforms', 'cpu')
  cells = grid.cells(axes)
  plan = grid.Plan(workdir)
  extra = ['--allow_unfaithful'] * _ALLOW_UNFAITHFUL.value + cli.cache_flags()
  if _STATUS.value:
    print(supervision.status_table(plan.jobs(cells, extra)))
    return
  _check(
    cell
    for cell in cells
    if any(jobs_lib.progress(job).state != 'done' for job in plan.jobs([cell]))
  )
  room, slots = devices.Room(None, 1), [{}]
  if backend == 'local':
    machine = devices.Devices.probe()
    slots = machine.slots(_PARALLEL.value)
    room = machine.room(_PARALLEL.value)
  if _MEMORY_GIB.value:
    room = room._replace(memory=int(_MEMORY_GIB.value * 2**30))
  undecided = plan.undecided(cells)
  counts = dict.fromkeys(undecided, 1)
  if room.memory:
    budgets = estimate.budgets_of(undecided, _ALLOW_UNFAITHFUL.value)
    for cell in undecided:
      counts[cell] = grid.blocks_that_fit(
        cell, budgets[cell].total, room.memory, room.devices
      )
  plan.decide(counts)
  found = plan.jobs(cells, extra)
  if _DRY_RUN.value:
    folders = {job.config: job.folder for job in found}
    speeds = estimate.read(_BENCHMARK.value)
    estimate.report(folders, speeds, _ALLOW_UNFAITHFUL.value, here=False)
    return
  if backend == 'skypilot':
    output = Path(_OUTPUT.value or f'{workdir}-tasks')
    missing = [job for job in found if jobs_lib.progress(job).state != 'done']
    options = settings['options']
    for line in cloud.write(missing, output, options, _RETRIES.value):
      print(line)
    return
  with locked(workdir):
    plan.write()
    engine = _engine(backend, workdir, settings['options'], slots)
    try:
      failed = supervision.supervise(found, engine, _RETRIES.value)
    finally:
      engine.close()
    print(supervision.status_table(found))
  if failed:
    print('failed: ' + '; '.join(failed))
    print('the same command runs them again, and nothing that is done')
    raise SystemExit(1)


def _asked() -> tuple[dict[str, list[Any]], dict[str, Any]]:
  """Axes and settings of the file, changed by those of the flags."""
  from mjx_crossq.config import ConfigError, one_of
  from mjx_crossq.launch.jobs import grid

  axes: dict[str, list[Any]] = {}
  settings: dict[str, Any] = {}
  if _FILE.value:
    axes, settings = grid.read(_FILE.value)
  if _GRID.value is not None:
    axes |= grid.parse(_GRID.value)
  if not axes:
    raise ConfigError("--grid='field=value,value ...' or --file is needed")
  for name, flag in (('workdir', _WORKDIR), ('backend', _BACKEND)):
    if flag.value is not None:
      settings[name] = flag.value
  one_of('backend', settings.get('backend', 'local'), BACKENDS)
  options = dict(settings.get('options', {}))
  for text in _OPTION.value:
    name, equals, value = text.partition('=')
    if not equals:
      raise ConfigError(f'--option={text}: write it as key=value')
    options[name] = _plain(value)
  if options and settings.get('backend', 'local') == 'local':
    raise ConfigError(
      f'the backend local has no options such as {next(iter(options))}; '
      'choose another --backend'
    )
  settings['options'] = options
  return axes, settings


def _plain(text: str) -> Any:
  """A number or a truth value where the text is one."""
  try:
    return json.loads(text)
  except ValueError:
    return text


def _check(cells: Iterable[Any]) -> None:
  """Refuses what could not be trained, before anything starts."""
  from mjx_crossq.device.runner import Runner

  loaded: dict[Any, Any] = {}
  for config in cells:
    key = (config.task, config.physics)
    if key not in loaded:
      loaded[key] = cli.load_env(*key, allow_unfaithful=_ALLOW_UNFAITHFUL.value)
    Runner(config, loaded[key])


def _engine(
  backend: str,
  workdir: Path,
  options: Mapping[str, Any],
  slots: Sequence[Mapping[str, str]],
) -> Any:
  from mjx_crossq.launch.jobs import backends

  if backend == 'slurm':
    return backends.Slurm(workdir / 'logs' / 'slurm', options)
  if backend == 'ray':
    return backends.Ray(options)
  return backends.Local(slots)


def run() -> None:
  """Entry point."""
  cli.run_jobs(main, __doc__)


if __name__ == '__main__':
  run()
