"""One run over several processes, on one host or many.

Seeds are independent, so nothing is exchanged while they train: each process
trains its block of the seeds on its own devices, as an ordinary run in
`process-<index>/` of the folder. They meet at the start, where they compare
their settings and see that they share the folder, and at the end, where process
0 puts the records together. If one ends early the others save and end too.
"""

import contextlib
import json
import queue
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from mjx_crossq import config as config_lib
from mjx_crossq.atomic import replacing
from mjx_crossq.config import Config, ConfigError
from mjx_crossq.host.workdir import own_workdir
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import grid, merging

_RECORD = 'processes.json'
_FOREVER = 366 * 24 * 3600
_SECONDS_TO_SEE = 60  # a shared disk may show a new file late

AGAIN = 'start all of them again with the same command and --resume'


class HostsError(cli.RunError):
  """Another process of the run failed; this one cannot go on alone."""


class Hosts:
  """This process among those of a run.

  Attributes:
    process: its index.
    count: how many there are.
    devices: which of this host's GPUs it has, as jax numbers them; `all`
      unless a scheduler started a process for each.
    failure: why the run must stop, or None.
  """

  def __init__(
    self,
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    heartbeat_timeout: int = 30,
    start_timeout: int = 300,
  ):
    """Meets the others.

    Args:
      coordinator: `host:port` of process 0; None where jax finds it: under
        Slurm, Kubernetes, Open MPI, on TPU pods.
      num_processes: how many there are; likewise.
      process_id: index of this one; likewise.
      heartbeat_timeout: seconds after which a silent host counts as lost.
      start_timeout: seconds to wait for the others.

    Raises:
      ConfigError: they did not meet.
    """
    self.failure: str | None = None
    self._start_timeout = start_timeout
    self._ended = False
    self._abort: Callable[[str], None] = lambda reason: None
    self._answers: queue.SimpleQueue = queue.SimpleQueue()
    self._errors = tempfile.TemporaryFile()  # noqa: SIM115
    self._helper = subprocess.Popen(
      [sys.executable, '-m', 'mjx_crossq.launch.rendezvous'],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      start_new_session=True,
    )
    self._send(
      {
        'coordinator_address': coordinator,
        'num_processes': num_processes,
        'process_id': process_id,
        'heartbeat_timeout_seconds': heartbeat_timeout,
        'initialization_timeout': start_timeout,
      }
    )
    assert self._helper.stdout
    line = self._helper.stdout.readline()
    joined = json.loads(line) if line else {'refused': self._why_lost()}
    if 'refused' in joined:
      raise ConfigError(
        f'--distributed: the processes did not meet ({joined["refused"]}); '
        'give --coordinator=host:port, --num_processes and --process_id, and '
        'start all of them'
      )
    self.process = int(joined['process'])
    self.count = int(joined['count'])
    self.devices: str = joined['devices'] or 'all'
    threading.Thread(target=self._listen, daemon=True).start()

  def _send(self, request: Any) -> None:
    assert self._helper.stdin
    with contextlib.suppress(OSError):  # it is gone; `_listen` says so
      self._helper.stdin.write((json.dumps(request) + '\n').encode())
      self._helper.stdin.flush()

  def _listen(self) -> None:
    assert self._helper.stdout
    for line in self._helper.stdout:
      found = json.loads(line)
      if 'failed' in found:
        self._fail(found['failed'])
      else:
        self._answers.put(found)
    if not self._ended:
      self._fail(self._why_lost())

  def _why_lost(self) -> str:
    """What jax said before it ended the process that met the others."""
    self._helper.wait()
    self._errors.seek(0)
    text = self._errors.read().decode(errors='replace')
    lost = sorted(set(re.findall(r'/task:(\d+)', text)), key=int)
    if lost and 'heartbeat' in text:
      return f'process {", ".join(lost)}, or its host, is lost'
    return 'process 0, or the way to it, is lost'

  def _fail(self, reason: str) -> None:
    if self.failure or self._ended:
      return
    self.failure = reason
    self._answers.put({'error': reason})
    self._abort(self._line())

  def _line(self) -> str:
    return f'the distributed run stops: {self.failure}; {AGAIN}'

  def _ask(self, request: Any) -> Any:
    """Sends a request and waits for its answer.

    Raises:
      HostsError: another process failed, or did not come in time.
    """
    answer: Any = None
    if not self.failure:
      self._send(request)
      answer = self._answers.get()
    if self.failure:
      raise HostsError(self._line())
    if 'error' in answer:
      error = answer['error']
      if 'DEADLINE_EXCEEDED' in error:
        error = 'another process did not come in time'
      raise HostsError(f'the distributed run stops: {error}; {AGAIN}')
    return answer.get('answer')

  def _share(self, key: str, value: str | None = None) -> str:
    """What process 0 says; it alone gives the value."""
    if self.process == 0:
      self._ask({'set': key, 'value': value})
      return value or ''
    return self._ask({'get': key, 'seconds': self._start_timeout})

  def agree(self, config: Config) -> None:
    """Compares the settings of all processes.

    Args:
      config: of the whole run.

    Raises:
      ConfigError: there are more processes than seeds, or this process has
        other settings than process 0.
      HostsError: another one has.
    """
    if self.count > config.num_seeds:
      raise ConfigError(
        f'{self.count} processes cannot share num_seeds={config.num_seeds}; '
        'start as many as there are seeds, or fewer'
      )
    mine = config.to_dict()
    text = self._share('settings', json.dumps(mine))
    theirs = config_lib.Config.from_dict(json.loads(text)).to_dict()
    differ = [
      f'{name} ({theirs[name]!r} there, {value!r} here)'
      for name, value in mine.items()
      if theirs[name] != value
    ]
    if differ:
      raise ConfigError(
        f'process {self.process} was given other settings than process 0: '
        + ', '.join(differ)
      )

  @contextlib.contextmanager
  def shared(
    self, workdir: Path, config: Config, resume: bool
  ) -> Iterator[Path]:
    """The folder of this process, once all see the run's.

    Args:
      workdir: folder of the whole run.
      config: of the whole run.
      resume: whether it may hold this run already.

    Raises:
      ConfigError: as `own_workdir`; the run was started by another number of
        processes; or this process does not see the folder.
      HostsError: one of the others fails.
    """
    with contextlib.ExitStack() as stack:
      if self.process == 0:
        stack.enter_context(own_workdir(workdir, config, resume))
        self._same_count(workdir)
        token = secrets.token_hex(16)
        record = {'num_processes': self.count, 'start': token}
        with replacing(workdir / _RECORD) as draft:
          draft.write_text(json.dumps(record) + '\n', encoding='utf-8')
        self._share('token', token)
      else:
        self._see(workdir / _RECORD, self._share('token'))
      self._ask({'meet': 'start', 'seconds': self._start_timeout})
      yield folder(workdir, self.process)

  def _same_count(self, workdir: Path) -> None:
    path = workdir / _RECORD
    if not path.exists():
      return
    try:
      before = int(json.loads(path.read_text('utf-8'))['num_processes'])
    except (OSError, ValueError, KeyError, TypeError):
      raise ConfigError(f'{path} is damaged; put back a copy') from None
    if before != self.count:
      raise ConfigError(
        f'{workdir} was started by {before} processes, not {self.count}: each '
        f'has the checkpoints of its seeds; start {before} again'
      )

  def _see(self, path: Path, token: str) -> None:
    end = time.monotonic() + _SECONDS_TO_SEE
    while time.monotonic() < end and not self.failure:
      with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        if json.loads(path.read_text('utf-8'))['start'] == token:
          return
      time.sleep(0.2)
    raise ConfigError(
      f'process {self.process} does not see {path} as process 0 wrote it; give '
      'all processes the same --workdir on a disk that they share'
    )

  def reporter(
    self, report: Callable[[str], None], workdir: Path
  ) -> Callable[[str], None]:
    """Says which process a line is from, and the folder that is to be given.

    Args:
      report: receives the lines.
      workdir: folder of the whole run.
    """
    own = f'--workdir={folder(workdir, self.process)} '

    def say(line: str) -> None:
      line = line.replace(own, f'--workdir={workdir} ')
      report(f'process {self.process}: {line}')

    return say

  def block(self, config: Config) -> Config:
    """The seeds of this process; the sizes differ by one at most."""
    return grid.blocks(config, self.count)[self.process]

  def watch(self, abort: Callable[[str], None]) -> None:
    """Has `abort` called with a line when another process has failed.

    Args:
      abort: called from a thread, at most once.
    """
    self._abort = abort
    if self.failure:
      abort(self._line())

  def finish(self, workdir: Path, config: Config) -> None:
    """Waits for the others; process 0 puts the records together.

    Args:
      workdir: folder of the whole run.
      config: of the whole run.

    Raises:
      HostsError: another process failed.
    """
    self._ask({'meet': 'end', 'seconds': _FOREVER})
    self._ended = True
    if self.process == 0:
      parts = [folder(workdir, process) for process in range(self.count)]
      merging.merge(workdir, config, parts)
    self._send('end')
    self._helper.wait()

  def close(self, error: BaseException | None) -> None:
    """Lets the others know how this process ends, unless it has finished.

    Args:
      error: why it ends.
    """
    if self._ended:
      return
    if isinstance(error, Exception) and not self.failure:
      line = ' '.join(str(error).split())
      mine = f'process {self.process} '
      line = line if line.startswith(mine) else f'{mine}has failed: {line}'
      self._send({'fail': line[:500]})
    self._ended = True
    assert self._helper.stdin
    with contextlib.suppress(OSError):
      self._helper.stdin.close()
    self._helper.wait()


@contextlib.contextmanager
def joined(**where: Any) -> Iterator[Hosts]:
  """This process among the others; they learn how it ends.

  Args:
    **where: as `Hosts` takes it.

  Raises:
    ConfigError: they did not meet, or jax shows this process the devices of
      other hosts.
  """
  hosts = Hosts(**where)
  try:
    if hosts.devices != 'all':  # a scheduler's process for each GPU
      jax.config.update('jax_cuda_visible_devices', hosts.devices)
    if jax.process_count() > 1:
      raise ConfigError(
        "jax shows this process the other hosts' devices too; on a TPU pod set "
        'TPU_PROCESS_BOUNDS=1,1,1 and TPU_CHIPS_PER_PROCESS_BOUNDS to the '
        'chips of one host'
      )
    yield hosts
  except BaseException as error:
    hosts.close(error)
    raise
  hosts.close(None)


def folder(workdir: Path, process: int) -> Path:
  """Where a process has its part of a run."""
  return workdir / f'process-{process}'
