"""A training run as a process: its folder, its command, its progress.

The name of the folder follows from the configuration, so that a second start
finds what the first one left and continues it.
"""

import contextlib
import dataclasses
import hashlib
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq import config as config_lib
from mjx_crossq import envs, vary
from mjx_crossq.config import SCHEDULE_FIELDS, Config, ConfigError
from mjx_crossq.envs import processes
from mjx_crossq.host import integrity, stopping
from mjx_crossq.host.workdir import check_continuable, in_use
from mjx_crossq.parsing import to_text
from mjx_crossq.results import curves

_LONGEST_NAME = 150
_IN_NAME = ('task', 'preset', 'utd', 'num_seeds')


@dataclasses.dataclass(frozen=True)
class Job:
  """A run and the place of its files.

  Attributes:
    config: what is trained.
    workdir: folder that holds the runs of all jobs.
    name: of the run's folder in it, different for each job.
    extra: further flags of `launch.train`.
  """

  config: Config
  workdir: Path
  name: str
  extra: tuple[str, ...] = ()

  @property
  def folder(self) -> Path:
    """The run's folder."""
    return self.workdir / self.name

  @property
  def log(self) -> Path:
    """The file that the output of its processes is appended to."""
    return self.workdir / 'logs' / f'{self.name}.log'

  @property
  def exit_status(self) -> Path:
    """The file that holds the exit status of its last process."""
    return self.workdir / 'logs' / f'{self.name}.exit'

  def command(self, python: str = sys.executable) -> list[str]:
    """The command that starts or continues the run.

    Args:
      python: the interpreter on the machine where the command runs.
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
  logged: bool = True,
) -> Any:
  """Starts the process of a job.

  Args:
    job: the job.
    variables: environment variables; None for those of this process.
    ignored: signals that are meant for this process but reach that one too.
    logged: whether the output is appended to the job's log; otherwise it is
      shown where this process shows its own.
  """

  def ignore() -> None:
    for number in ignored:
      signal.signal(number, signal.SIG_IGN)

  job.log.parent.mkdir(parents=True, exist_ok=True)
  job.exit_status.unlink(missing_ok=True)
  with job.log.open('ab') if logged else contextlib.nullcontext() as log:
    return subprocess.Popen(
      job.command(),
      stdin=subprocess.DEVNULL,
      stdout=log,
      stderr=subprocess.STDOUT if logged else None,
      env=processes.variables(variables),
      preexec_fn=ignore if ignored else None,
    )


def record_exit(job: Job, status: int) -> int:
  """Writes the exit status of a job's process to a file and returns it."""
  job.exit_status.write_text(f'{status}\n', encoding='ascii')
  return status


def run(job: Job) -> int:
  """Trains a job and returns the exit status; called on a worker.

  If this process is stopped, so is the job's, which saves a checkpoint first.
  """
  process = start(job)
  try:
    return record_exit(job, process.wait())
  finally:
    if process.poll() is None:
      process.terminate()
      process.wait()


def last_line(job: Job) -> str:
  """The last line of a job's log, which states why it failed; '' if none."""
  try:
    text = job.log.read_text(encoding='utf-8', errors='replace')
  except OSError:
    return ''
  return next(filter(None, map(str.strip, reversed(text.splitlines()))), '')


# ------------------------------------------------------------------ the folder


def short_name(config: Config) -> str:
  """The name of a run's folder where runs differ only in what it contains."""
  task = config.task.replace(':', '-').replace('/', '-')
  return f'{task}-{config.preset}-utd{config.utd}-seeds{config.num_seeds}'


def full_name(config: Config) -> str:
  """The name of a run's folder where runs may differ in any field.

  It contains every field that differs from the preset, except those that may
  change when a run is continued (`SCHEDULE_FIELDS`). A long list of fields is
  replaced by its hash.

  Args:
    config: of the run.
  """
  preset = config_lib.from_preset(config.preset).to_dict()
  differ = [
    re.sub('[/:;]', '-', f'{name}{to_text(value)}')
    for name, value in config.to_dict().items()
    if value != preset[name] and name not in (*_IN_NAME, *SCHEDULE_FIELDS)
  ]
  name = '-'.join([short_name(config), *differ])
  if len(name) > _LONGEST_NAME:
    digest = hashlib.sha256('-'.join(differ).encode()).hexdigest()
    name = f'{short_name(config)}-{digest[:12]}'
  return name


def title(config: Config) -> str:
  """A run's task, preset and UTD for messages."""
  return f'{config.task}, {config.preset}, UTD {config.utd}'


def flags(config: Config) -> list[str]:
  """The flags of `launch.train` that give a configuration."""
  # Some presets have other values on an accelerator.
  presets = [
    config_lib.from_preset(config.preset, accelerator=accelerator).to_dict()
    for accelerator in (False, True)
  ]
  return [f'--preset={config.preset}'] + [
    f'--set={name}={to_text(value)}'
    for name, value in config.to_dict().items()
    if any(value != preset[name] for preset in presets)
  ]


# ---------------------------------------------------------------- progress


def last_step(config: Config) -> int:
  """The env step at which a run ends."""
  return config.iterations * config.steps_per_iteration


def reached(config: Config, where: Path) -> int:
  """The env step of the newest checkpoint in a folder, or 0.

  A run saves a checkpoint after the evaluation and the records of the same env
  step are on the disk, so the checkpoint states how far the run is. The process
  that restores it checks whether it is intact.

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
  """Whether a run has ended, including its last evaluation.

  A process that is asked to stop saves a checkpoint before it evaluates, so the
  last checkpoint alone is not enough.

  Args:
    config: what was to be run there.
    where: the run's folder.

  Raises:
    ConfigError: as `reached`.
  """
  step = reached(config, where)
  # A run writes these rows last. Only the suite's tasks have a stock version.
  physics = 'dm_control' if config.task in envs.ALL_TASKS else config.physics
  rows = [
    returns
    for folder in vary.folders(where, config)
    for returns in _evaluation(step, physics, folder / 'eval.csv')
  ]
  whole = [len(returns) for returns in rows] == [config.eval_episodes] * (
    config.num_seeds * len(vary.variants(config))
  )
  return whole and (
    step >= last_step(config)
    or stopping.reached(config, {physics: np.array(rows)})
  )


def _evaluation(step: int, physics: str, path: Path) -> list[np.ndarray]:
  """The returns of each seed at an env step, as far as a file has them."""
  if not path.exists():
    return []
  seeds = curves.read_returns(path).get(physics, {})
  return [steps.get(step, np.zeros(0)) for steps in seeds.values()]


@dataclasses.dataclass(frozen=True)
class Progress:
  """How far a job is.

  Attributes:
    state: `done`, `running` (a process owns the folder), `failed` (its last
      process failed), `partial` (it can be continued) or `missing`.
    step: env step of the newest checkpoint.
    episode_return: mean of the newest evaluation; None before the first.
  """

  state: str
  step: int
  episode_return: float | None


def progress(job: Job) -> Progress:
  """How far a job is, read from its folder without changing anything.

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
