"""A training run as a process: its folder, its command, how far it is.

The folder follows from the configuration alone, so that a second start finds
what the first one left, and goes on with it.
"""

import dataclasses
import hashlib
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mjx_crossq import config as config_lib
from mjx_crossq import envs, vary
from mjx_crossq.config import SCHEDULE_FIELDS, Config, ConfigError
from mjx_crossq.host import integrity
from mjx_crossq.host.workdir import check_continuable, in_use
from mjx_crossq.results import curves

_LONGEST_NAME = 150
_IN_NAME = ('task', 'preset', 'utd', 'num_seeds')

USAGE_ERROR = 2
"""Exit status of a run that another attempt will not mend."""


@dataclasses.dataclass(frozen=True)
class Job:
  """A run, and where it is made.

  Attributes:
    config: what is trained.
    folder: of the run.
    extra: further flags of `launch.train`.
  """

  config: Config
  folder: Path
  extra: tuple[str, ...] = ()

  @property
  def name(self) -> str:
    """The folder's name, which no other job of a sweep has."""
    return self.folder.name

  @property
  def log(self) -> Path:
    """Where the output of its processes goes."""
    return self.folder.parent / 'logs' / f'{self.name}.log'

  @property
  def exit_status(self) -> Path:
    """Where the exit status of its last process is written."""
    return self.log.with_suffix('.exit')

  def command(self, python: str = sys.executable) -> list[str]:
    """What trains it, or goes on with it.

    Args:
      python: the interpreter, on the machine that runs it.
    """
    return [
      python,
      '-m',
      'mjx_crossq.launch.train',
      '--resume',
      f'--workdir={self.folder}',
      *flags(self.config),
      *self.extra,
    ]


def start(
  job: Job,
  variables: Mapping[str, str] | None = None,
  ignored: Sequence[int] = (),
) -> Any:
  """Starts the process of a job; its output is appended to the job's log.

  Args:
    job: the job.
    variables: of the environment; None for those of this process.
    ignored: signals that are for this process and reach that one too.
  """

  def ignore() -> None:
    for number in ignored:
      signal.signal(number, signal.SIG_IGN)

  job.log.parent.mkdir(parents=True, exist_ok=True)
  job.exit_status.unlink(missing_ok=True)
  with job.log.open('ab') as log:
    return subprocess.Popen(
      job.command(),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT,
      env=variables if variables is None else dict(variables),
      preexec_fn=ignore if ignored else None,
    )


def ended(job: Job, status: int) -> int:
  """Writes down the exit status of a job's process, and returns it."""
  job.exit_status.write_text(f'{status}\n', encoding='ascii')
  return status


def run(job: Job) -> int:
  """Trains a job and returns the exit status; the worker's part of a sweep.

  If this process is stopped, so is that of the job, which saves first.
  """
  return ended(job, wait(start(job)))


def wait(process: Any) -> int:
  """The exit status of a process, which ends when this one is stopped."""
  try:
    return process.wait()
  finally:
    if process.poll() is None:
      process.terminate()
      process.wait()


def last_line(job: Job) -> str:
  """The last line of a job's log, which says why it failed."""
  try:
    text = job.log.read_text(encoding='utf-8', errors='replace')
  except OSError:
    return ''
  return next(filter(None, map(str.strip, reversed(text.splitlines()))), '')


# ------------------------------------------------------------------ the folder


def folder(workdir: Path, config: Config) -> Path:
  """Where a run is, in a list whose runs differ in what the name says."""
  task = config.task.replace(':', '-').replace('/', '-')
  name = f'{config.preset}-utd{config.utd}-seeds{config.num_seeds}'
  return workdir / f'{task}-{name}'


def full_folder(workdir: Path, config: Config) -> Path:
  """Where a run is, in a list whose runs may differ in anything.

  The name has every field that is not the preset's; those that a run that
  goes on may change (`SCHEDULE_FIELDS`) have no part in it. A long list of
  fields is replaced by a hash of it.

  Args:
    workdir: folder of the runs.
    config: of the run.
  """
  preset = config_lib.from_preset(config.preset).to_dict()
  differ = [
    f'{name}{_text(value)}'.replace('/', '-').replace(':', '-')
    for name, value in config.to_dict().items()
    if value != preset[name] and name not in (*_IN_NAME, *SCHEDULE_FIELDS)
  ]
  base = folder(workdir, config)
  name = '-'.join([base.name, *differ])
  if len(name) > _LONGEST_NAME:
    digest = hashlib.sha256('-'.join(differ).encode()).hexdigest()
    name = f'{base.name}-{digest[:12]}'
  return workdir / name


def title(config: Config) -> str:
  """A run in a person's words."""
  return f'{config.task}, {config.preset}, UTD {config.utd}'


def flags(config: Config) -> list[str]:
  """The flags of `launch.train` that give a configuration."""
  # A preset may be another one on an accelerator.
  presets = [
    config_lib.from_preset(config.preset, accelerator=accelerator).to_dict()
    for accelerator in (False, True)
  ]
  return [f'--preset={config.preset}'] + [
    f'--set={name}={_text(value)}'
    for name, value in config.to_dict().items()
    if any(value != preset[name] for preset in presets)
  ]


def _text(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


# ------------------------------------------------------------ how far it is


def last_step(config: Config) -> int:
  """The env step at which a run ends."""
  return config.iterations * config.steps_per_iteration


def reached(config: Config, where: Path) -> int:
  """The env step of the newest checkpoint in a folder, or 0.

  It is the mark of how far a run is: the loop saves a checkpoint after the
  evaluation and the records of its env step are on the disk. Whether it is
  intact is for the process that reads it.

  Args:
    config: what was to be run there.
    where: the run's folder.

  Raises:
    ConfigError: the folder holds something else, or a run with other
      settings.
  """
  if not where.exists():
    return 0
  if not (where / 'config.json').is_file():
    # A process may be about to write the first file of a run.
    if not where.is_dir() or (any(where.iterdir()) and not in_use(where)):
      raise ConfigError(
        f'{where} is not empty and holds no run; choose another --workdir'
      )
    return 0
  check_continuable(where, config)
  return max(integrity.saved(where / 'checkpoints'), default=0)


def complete(config: Config, where: Path) -> bool:
  """Whether a run has ended, its last evaluation included.

  A process that is asked to stop saves its state before it evaluates.

  Args:
    config: what was to be run there.
    where: the run's folder.

  Raises:
    ConfigError: as `reached`.
  """
  last = last_step(config)
  if reached(config, where) < last:
    return False
  return all(
    _evaluated(config, last, folder / 'eval.csv')
    for folder in vary.folders(where, config)
  )


def _evaluated(config: Config, step: int, path: Path) -> bool:
  """Whether a file has the whole evaluation of an env step."""
  if not path.exists():
    return False
  # The last that a run writes; tasks of others have no stock environment.
  physics = 'dm_control' if config.task in envs.ALL_TASKS else config.physics
  seeds = curves.read_returns(path).get(physics, {})
  episodes = [len(steps.get(step, ())) for steps in seeds.values()]
  return episodes == config.num_seeds * [config.eval_episodes]


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a job is.

  Attributes:
    state: `done`, `running` (a process is at work in the folder), `failed`
      (its last process did), `partial` (it can go on) or `missing`.
    step: env step of the newest checkpoint.
    episode_return: mean of the newest evaluation; None before the first.
  """

  state: str
  step: int
  episode_return: float | None


def progress(job: Job) -> Progress:
  """How far a job is; nothing is started or changed.

  Raises:
    ConfigError: as `reached`.
  """
  step = reached(job.config, job.folder)
  if in_use(job.folder):
    state = 'running'
  elif complete(job.config, job.folder):
    state = 'done'
  elif _failed(job):
    state = 'failed'
  else:
    state = 'partial' if step else 'missing'
  return Progress(state, step, _last_return(job))


def _failed(job: Job) -> bool:
  try:
    return int(job.exit_status.read_text(encoding='ascii')) != 0
  except (OSError, ValueError):
    return False


def _last_return(job: Job) -> float | None:
  found = []
  for folder in vary.folders(job.folder, job.config):
    try:
      seeds = curves.Run.read(folder).returns()
    except ConfigError:
      return None
    step = max(max(trace) for trace in seeds.values())
    found += [trace[step] for trace in seeds.values() if step in trace]
  return sum(found) / len(found)
