"""Where the jobs of a sweep run: this machine, Slurm or Ray.

A backend takes jobs and reports how each ended. A job's folder contains
everything that is needed to continue it, so a job may be submitted again at any
time.
"""

import abc
import contextlib
import importlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from typing_extensions import override

from mjx_crossq.config import ConfigError, one_of
from mjx_crossq.launch.jobs import jobs
from mjx_crossq.launch.jobs.jobs import Job

Handle = Any
"""A submitted job, as its backend knows it."""


class Backend(abc.ABC):
  """Takes jobs and reports how each ended.

  Attributes:
    seconds: time between two calls of `poll`.
  """

  seconds = 1.0

  @abc.abstractmethod
  def submit(self, found: Sequence[Job]) -> list[Handle]:
    """Takes jobs, which start when there is a free place for them."""

  @abc.abstractmethod
  def poll(self, handle: Handle) -> int | None:
    """The exit status of a job, or None while it waits or runs."""

  @abc.abstractmethod
  def close(self) -> None:
    """Stops the jobs that still run, after they have saved a checkpoint."""


class Local(Backend):
  """Processes on this machine, some at a time."""

  seconds = 0.2

  def __init__(
    self,
    slots: Sequence[Mapping[str, str]] = ({},),
    start: Callable[[Job, Mapping[str, str]], Any] = jobs.start,
  ):
    """Starts nothing yet.

    Args:
      slots: variables of the environment for each process that may run at a
        time, such as the device that it has.
      start: starts the process of a job.
    """
    self._free = deque(slots)
    self._start = start
    self._waiting: deque[Job] = deque()
    self._running: dict[Job, tuple[Any, Mapping[str, str]]] = {}

  @override
  def submit(self, found: Sequence[Job]) -> list[Handle]:
    self._waiting.extend(found)
    self._fill()
    return list(found)

  def _fill(self) -> None:
    while self._free and self._waiting:
      job, slot = self._waiting.popleft(), self._free.popleft()
      process = self._start(job, {**os.environ, **slot})
      self._running[job] = process, slot

  @override
  def poll(self, handle: Handle) -> int | None:
    if handle not in self._running:
      return None
    process, slot = self._running[handle]
    status = process.poll()
    if status is None:
      return None
    del self._running[handle]
    self._free.append(slot)
    self._fill()
    return jobs.record_exit(handle, status)

  @override
  def close(self) -> None:
    self._waiting.clear()
    for process, _ in self._running.values():
      with contextlib.suppress(ProcessLookupError):
        process.terminate()
    for process, _ in self._running.values():
      process.wait()


class Slurm(Backend):
  """Slurm through submitit; jobs that are submitted together form one array.

  A job that Slurm is about to stop saves a checkpoint and is queued again. The
  file with its result or the queue tells when a job has ended, so Slurm's
  accounting is not needed.
  """

  seconds = 2.0
  _GRACE = 20.0  # seconds until a result is visible on a shared disk

  def __init__(self, logs: Path, options: Mapping[str, Any]):
    """Submits nothing yet.

    Args:
      logs: folder of submitit's files, visible to all nodes.
      options: of `submitit.AutoExecutor.update_parameters`, such as
        `slurm_partition`, `timeout_min`, `gpus_per_node`, `cpus_per_task`,
        `slurm_array_parallelism`. With `cluster` equal to `local`, submitit
        starts the jobs on this machine.

    Raises:
      ConfigError: submitit or Slurm is not installed, or an option is wrong.
    """
    submitit = _imported('submitit', 'slurm')
    options = dict(options)
    cluster = options.pop('cluster', 'slurm')
    one_of('cluster', cluster, ('slurm', 'local'))
    self._in_slurm = cluster == 'slurm'
    try:
      logs.mkdir(parents=True, exist_ok=True)
      self._executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
      self._executor.update_parameters(
        **{
          'name': 'mjx_crossq',
          'timeout_min': 24 * 60,
          **options,
        }
      )
    except (RuntimeError, TypeError, ValueError, NameError, OSError) as error:
      raise ConfigError(f'--backend=slurm: {error}') from None
    self._submitted: list[Any] = []
    self._queue: set[str] = set()
    self._asked = 0.0
    self._gone: dict[str, float] = {}

  @override
  def submit(self, found: Sequence[Job]) -> list[Handle]:
    new = self._executor.map_array(SlurmWorker(), found) if found else []
    self._submitted += new
    self._asked = 0.0
    return new

  @override
  def poll(self, handle: Handle) -> int | None:
    """The exit status of a job, 1 if there is no result, None if it runs."""
    if handle.paths.result_pickle.exists():
      with contextlib.suppress(Exception):
        return int(handle.result())
      return 1
    if self._waits(handle):
      self._gone.pop(handle.job_id, None)
      return None
    since = self._gone.setdefault(handle.job_id, time.monotonic())
    return 1 if time.monotonic() - since > self._GRACE else None

  def _waits(self, handle: Any) -> bool:
    """Whether a job is queued or runs."""
    if not self._in_slurm:
      return handle.state in ('RUNNING', 'PENDING')
    if time.monotonic() - self._asked > self.seconds:
      shown = subprocess.run(
        ['squeue', '--me', '--noheader', '--array', '--format=%i'],
        capture_output=True,
        text=True,
        check=False,
      )
      if shown.returncode:  # the controller may be down for a while
        return True
      self._queue = set(shown.stdout.split())
      self._asked = time.monotonic()
    return handle.job_id in self._queue

  @override
  def close(self) -> None:
    for job in self._submitted:
      if not job.paths.result_pickle.exists():
        with contextlib.suppress(Exception):
          job.cancel(check=False)


class SlurmWorker:
  """What submitit calls on a node.

  `checkpoint` is called by a signal while `__call__` waits in the same thread.
  Both read a list that another thread fills, because two nested calls of
  `Popen.wait` would block each other.
  """

  def __init__(self):
    """Starts nothing yet."""
    self._process: Any = None
    self._status: list[int] = []

  def __call__(self, job: Job) -> int:
    """Trains a job; returns the exit status."""
    # Slurm sends submitit's signal to every process of the job, also to ours.
    self._process = jobs.start(job, ignored=(signal.SIGUSR2,))
    threading.Thread(target=self._reap, daemon=True).start()
    return jobs.record_exit(job, self._wait())

  def _reap(self) -> None:
    self._status.append(self._process.wait())

  def _wait(self) -> int:
    while not self._status:
      time.sleep(0.2)
    return self._status[0]

  def checkpoint(self, job: Job) -> Any:
    """Saves a checkpoint; submitit then queues the job again."""
    submitit = _imported('submitit', 'slurm')
    if self._process is not None:
      self._process.terminate()
      self._wait()
    return submitit.helpers.DelayedSubmission(SlurmWorker(), job)


class Ray(Backend):
  """Tasks of a Ray cluster."""

  def __init__(self, options: Mapping[str, Any]):
    """Connects to a cluster, or starts one on this machine.

    Args:
      options: `address` of a cluster (default: that of this machine, or else a
        new one), `num_gpus` of a job (default: 1 if the cluster has GPUs) and
        `num_cpus` of a job (default: 1).

    Raises:
      ConfigError: ray is not installed, there is no such cluster, or an
        option is wrong.
    """
    self._ray: Any = _imported('ray', 'ray')
    for name in options:
      one_of('option of ray', name, ('address', 'num_gpus', 'num_cpus'))
    try:
      self._ray.init(
        address=options.get('address'),
        logging_level='ERROR',
        log_to_driver=False,
      )
    except (ConnectionError, ValueError, RuntimeError) as error:
      raise ConfigError(f'--backend=ray: {error}') from None
    resources = self._ray.cluster_resources()
    self._train = self._ray.remote(
      num_gpus=options.get('num_gpus', min(1, resources.get('GPU', 0))),
      num_cpus=options.get('num_cpus', 1),
      max_retries=0,
    )(jobs.run)
    self._handles: list[Any] = []

  @override
  def submit(self, found: Sequence[Job]) -> list[Handle]:
    new = [self._train.remote(job) for job in found]
    self._handles += new
    return new

  @override
  def poll(self, handle: Handle) -> int | None:
    """The exit status of a job, 1 if its worker or node was lost."""
    ready, _ = self._ray.wait([handle], timeout=0)
    if not ready:
      return None
    try:
      return int(self._ray.get(handle))
    except self._ray.exceptions.RayError:
      return 1

  @override
  def close(self) -> None:
    left = self._handles
    if left:
      _, left = self._ray.wait(left, num_returns=len(left), timeout=0)
    for handle in left:
      self._ray.cancel(handle)
    if left:
      self._ray.wait(left, num_returns=len(left), timeout=60)
    self._ray.shutdown()


def _imported(name: str, extra: str) -> Any:
  """An optional package.

  Raises:
    ConfigError: it is not installed.
  """
  try:
    return importlib.import_module(name)
  except ImportError:
    raise ConfigError(
      f'--backend={extra} needs {name}: pip install mjx_crossq[{extra}]'
    ) from None
