"""A process that plays evaluation episodes in stock dm_control.

`workers.Workers` starts it and speaks with it by pickles in its standard input
and output. It ends when its input does, so no signal and no error of the run
leaves it behind.
"""

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from typing import Any

import numpy as np

from mjx_crossq.host import preemption, stock_episodes
from mjx_crossq.learner import numpy_policy


def main() -> None:
  """Loads the task, says that it is ready, and answers until the end."""
  for number in preemption.signals():  # those of a terminal reach it too
    signal.signal(number, signal.SIG_IGN)
  answers = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)  # what packages print is no answer
  requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
  threading.Thread(target=_read, args=(requests,), daemon=True).start()
  worker = None
  while True:
    try:
      request = pickle.loads(requests.get())
      if worker is None:
        worker = _Worker(**request)
        answer = None
      else:
        answer = worker.play(**request)
    except Exception:
      answer = traceback.format_exc()
    pickle.dump(answer, answers)
    answers.flush()


def _read(requests: Any) -> None:
  while True:
    try:
      requests.put(pickle.load(sys.stdin.buffer))  # bytes, see `Workers`
    except EOFError:
      os._exit(0)  # also in the middle of an episode


class _Worker:
  """The stock environments of some episodes."""

  def __init__(
    self,
    env: Any,
    cells: list[tuple[int, int]],
    seen: tuple[int, int] | None,
    **options: Any,
  ):
    """Makes them.

    Args:
      env: makes stock environments.
      cells: the seed and the number of each episode.
      seen: the part of an observation that the policy sees; None for all.
      **options: of `stock_episodes.play`.
    """
    self._stock = [env.stock_env(0) for _ in cells]
    self._cells = cells
    self._seen = slice(*seen) if seen else slice(None)
    self._options = options

  def play(self, layers: list[Any], step: int) -> np.ndarray:
    """Returns of the episodes, `(episodes,)`.

    Args:
      layers: of `numpy_policy.act`, for `(episodes, 1, observation_size)`.
      step: env step of the policy, which decides the initial states.
    """
    for stock, (seed, episode) in zip(self._stock, self._cells, strict=True):
      stock_episodes.seed_episode(stock, seed, step, episode)

    def act(obs):
      return numpy_policy.act(layers, obs[:, None, self._seen])[:, 0]

    return stock_episodes.play(self._stock, act, **self._options)


if __name__ == '__main__':
  main()
