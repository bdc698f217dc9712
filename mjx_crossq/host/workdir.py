"""The folder of a run: which run it holds, which process may write there."""

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

from mjx_crossq import config as config_lib
from mjx_crossq import vary
from mjx_crossq.config import SCHEDULE_FIELDS, Config, ConfigError
from mjx_crossq.errors import WriteError
from mjx_crossq.host.run_files import write_config

try:
  import fcntl
except ImportError:  # Windows: policies are used there, and not trained
  fcntl = None

_LOCK = '.lock'
# Files of a process that was killed before it had written `config.json`.
_OURS = {_LOCK, '.writable', 'config.json.partial'}


@contextlib.contextmanager
def own_workdir(workdir: Path, config: Config, resume: bool) -> Iterator[None]:
  """Makes the folder, or refuses it before anything in it is changed.

  In the context no other process can own the folder. The operating system
  releases the lock when the process ends, whatever the reason.

  Args:
    workdir: the folder.
    config: of the run; written to `config.json` of a new folder.
    resume: whether the folder may hold this run already.

  Raises:
    ConfigError: if it holds something else, a run although `resume` is False,
      or a run with another configuration; if another process owns it; or if it
      cannot be written.
  """
  try:
    _refuse_foreign(workdir, config, resume)
  except OSError as error:
    raise _unwritable(workdir, error) from None
  with locked(workdir):
    _refuse_foreign(workdir, config, resume)  # it may have changed meanwhile
    try:
      probe = workdir / '.writable'
      probe.write_text('x')
      probe.unlink()
      if not (workdir / 'config.json').exists():
        write_config(workdir, config)
    except OSError as error:
      raise _unwritable(workdir, error) from None
    except WriteError as error:
      raise ConfigError(error) from None
    yield


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
  """Makes a folder, which no other process can own in the context.

  Args:
    workdir: the folder.

  Raises:
    ConfigError: another process owns it, or it cannot be written.
  """
  if fcntl is None:
    raise ConfigError(
      'training needs the file locks of Linux or macOS; take WSL on Windows'
    )
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    lock = (workdir / _LOCK).open('a+', encoding='utf-8')
  except OSError as error:
    raise _unwritable(workdir, error) from None
  with lock:
    _acquire(lock, workdir)
    yield


def _refuse_foreign(workdir: Path, config: Config, resume: bool) -> None:
  if not workdir.exists():
    return
  if (workdir / 'config.json').exists():
    _refuse_other_run(workdir, config, resume)
  elif {path.name for path in workdir.iterdir()} - _OURS:
    raise ConfigError(
      f'{workdir} is not empty and holds no run; choose another --workdir'
    )


def in_use(workdir: Path) -> bool:
  """Whether a process owns a folder; nothing is changed there."""
  if fcntl is None:
    return False
  try:
    with (workdir / _LOCK).open('r', encoding='utf-8') as lock:
      fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  except OSError:  # no folder, no lock file, or a file system without locks
    return False
  return False


def _lock(lock) -> None:
  """Takes the lock of a folder; `in_use` holds it for a moment only."""
  assert fcntl
  for attempt in reversed(range(5)):
    try:
      return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      if not attempt:
        raise
      time.sleep(0.05)


def _acquire(lock, workdir: Path) -> None:
  try:
    _lock(lock)
  except BlockingIOError:
    lock.seek(0)
    owner = lock.read().strip() or 'unknown'
    raise ConfigError(
      f'another process (id {owner}) trains in {workdir}; wait for it, or '
      'choose another --workdir'
    ) from None
  except OSError as error:
    # Some network file systems have no locks: the folder is not protected.
    if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
      raise _unwritable(workdir, error) from None
  lock.seek(0)
  lock.truncate()
  lock.write(f'{os.getpid()}\n')
  with contextlib.suppress(OSError):  # the number is only for the message
    lock.flush()


def _refuse_other_run(workdir: Path, config: Config, resume: bool) -> None:
  if not resume:
    raise ConfigError(
      f'{workdir} already holds a run; add --resume to go on with it, or '
      'choose another --workdir'
    )
  check_continuable(workdir, config)


def check_continuable(workdir: Path, config: Config) -> None:
  """Refuses to resume a run with another configuration.

  Args:
    workdir: the folder of a run.
    config: the configuration with which it is to be resumed.

  Raises:
    ConfigError: it was started with other settings, or its `config.json`
      cannot be read.
  """
  saved, _ = config_lib.load(workdir / 'config.json')
  differ = [
    f'{name} ({value!r} there, {getattr(config, name)!r} here)'
    for name, value in saved.to_dict().items()
    if name not in SCHEDULE_FIELDS and value != getattr(config, name)
  ]
  if differ:
    raise ConfigError(
      f'{workdir} was started with other settings: {", ".join(differ)}'
    )


def checkpoint_rows(workdir: Path, config: Config) -> tuple[Path, int]:
  """The folder of a run's checkpoints, and the row of its first seed there.

  Args:
    workdir: of a run, or of a variant of a run, which has none of its own.
    config: of it.

  Raises:
    ConfigError: the run has variants, and one of them is to be named.
  """
  if config.vary:
    example, *_ = vary.folders(workdir, config)
    raise ConfigError(
      f'{workdir} has variants; take the folder of one of them, such as '
      f'{example}'
    )
  if not (above := vary.parent(workdir)):
    return workdir / 'checkpoints', 0
  whole, _ = config_lib.load(above / 'config.json')
  names = [path.name for path in vary.folders(above, whole)]
  row = names.index(workdir.resolve().name) * config.num_seeds
  return above / 'checkpoints', row


def _unwritable(workdir: Path, error: OSError) -> ConfigError:
  return ConfigError(f'cannot write to {workdir}: {error.strerror}')
