"""Processes that play the stock episodes while the device goes on training."""

import contextlib
import pickle
import subprocess
import sys
from concurrent import futures
from typing import Any

import numpy as np

from mjx_crossq.device.runner import Runner
from mjx_crossq.envs import processes, runtime
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError, RunError
from mjx_crossq.learner.policy_layers import policy_layers
from mjx_crossq.learner.states import Network

MOST = 16
"""Processes at most."""

# Each plays its episodes on one core, and leaves the accelerator alone.
_VARIABLES = {
  'JAX_PLATFORMS': 'cpu',
  'OMP_NUM_THREADS': '1',
  'OPENBLAS_NUM_THREADS': '1',
  'MKL_NUM_THREADS': '1',
}


class Workers:
  """Plays the episodes of an evaluation with the policy in NumPy.

  It is a context manager; leaving it ends the processes. They begin the same
  episodes as `evaluation.StockEvaluation`, whose actions are equal up to
  rounding. How many they are changes no bit.
  """

  def __init__(self, runner: Runner, env: Env, count: int | None = None):
    """Starts the processes, and does not wait until they are ready.

    Args:
      runner: says which seeds and how many episodes.
      env: a task with a stock environment.
      count: of the processes; None for a core each but one.

    Raises:
      ConfigError: the environment cannot be sent to other processes.
    """
    c = runner.config
    self._config = c
    stock = env.stock_only()
    try:
      pickle.dumps(stock)
    except Exception as error:  # whatever its parts raise
      raise ConfigError(
        f'{c.task} cannot be sent to other processes ({error}); take '
        '--noeval_async, or override Env.stock_only'
      ) from None
    self._shape = len(runner.seeds), c.eval_episodes
    cells = list(np.ndindex(self._shape))
    count = min(count or max(1, runtime.cores() - 1), MOST, len(cells))
    self._parts = [cells[first::count] for first in range(count)]
    variables = processes.variables() | _VARIABLES
    command = [sys.executable, '-m', 'mjx_crossq.host.stock_worker']
    self._processes: list[subprocess.Popen[bytes]] = []
    self._thread = futures.ThreadPoolExecutor(1, 'evaluation')
    for part in self._parts:
      process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables,
      )
      self._processes.append(process)
      setup = {
        'env': stock,
        'cells': [(runner.seeds[row], episode) for row, episode in part],
        'seen': env.actor_observation,
        'action_range': env.action_range,
        'action_repeat': c.action_repeat,
        'length': env.episode_length,
      }
      with contextlib.suppress(OSError):  # found when it is to answer
        self._send(process, setup)
    self._ready = self._thread.submit(self._answers)

  def __enter__(self) -> 'Workers':
    """Returns itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Ends the processes, whatever they do."""
    for process in self._processes:
      process.kill()
      process.wait()
    self._thread.shutdown(cancel_futures=True)
    for process in self._processes:
      with contextlib.suppress(OSError):  # bytes that nobody read
        process.communicate()

  @property
  def process_ids(self) -> list[int]:
    """Of the processes."""
    return [process.pid for process in self._processes]

  def play(self, policy: Network, step: int) -> 'futures.Future[np.ndarray]':
    """Begins an evaluation in stock dm_control.

    Args:
      policy: actors of all seeds, on the host.
      step: env step of the policy.

    Returns:
      Undiscounted returns, `(num_seeds, eval_episodes)`, or the RunError of a
      process that has failed.
    """
    layers = policy_layers(self._config, policy)
    return self._thread.submit(self._play, layers, step)

  def _play(self, layers: list[Any], step: int) -> np.ndarray:
    self._ready.result()
    for process, part in zip(self._processes, self._parts, strict=True):
      rows = [row for row, _ in part]
      own = [
        (kind, {name: _of_rows(x, rows) for name, x in values.items()})
        for kind, values in layers
      ]
      with contextlib.suppress(OSError):
        self._send(process, {'layers': own, 'step': step})
    returns = np.zeros(self._shape)
    for part, found in zip(self._parts, self._answers(), strict=True):
      returns[tuple(np.array(part).T)] = found
    return returns

  def _send(self, process: Any, request: Any) -> None:
    # Bytes, so that the process can read on while it unpickles what they say.
    pickle.dump(pickle.dumps(request), process.stdin)
    process.stdin.flush()

  def _answers(self) -> list[Any]:
    """An answer of each process.

    Raises:
      RunError: one has ended, or failed.
    """
    found = []
    for process in self._processes:
      try:
        answer = pickle.load(process.stdout)  # pyright: ignore
      except (EOFError, OSError, ValueError, pickle.UnpicklingError):
        code = process.wait()
        raise RunError(
          f'evaluation process {process.pid} has ended with code {code}; go on '
          'with --resume, and --noeval_async if it does so again'
        ) from None
      if isinstance(answer, str):
        print(answer, file=sys.stderr)
        raise RunError(
          f'evaluation process {process.pid} has failed: '
          f'{answer.strip().splitlines()[-1]}; go on with --resume '
          '--noeval_async'
        )
      found.append(answer)
    return found


def _of_rows(x: Any, rows: list[int]) -> Any:
  """Parameters of some seeds, for observations `(episodes, 1, size)`."""
  x = np.asarray(x)
  if not x.ndim:  # a constant that all share
    return x
  own = x[rows]
  return own if own.ndim == 3 else own[:, None]
