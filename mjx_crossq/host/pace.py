"""How far a call of the training program goes."""

from mjx_crossq.config import Config

SECONDS = 5.0  # of a call, about; a preempted run must save within 30
GROWTH = 4.0


class Pace:
  """Sizes the calls, so that the host is heard every few seconds.

  Where a chunk is cut changes no number of the run (`Trainer.train_chunk`).
  """

  def __init__(self, config: Config, longest: int | None = None):
    """Starts with one iteration.

    Args:
      config: says when learning begins and iterations become slower.
      longest: iterations of a call, at most.
    """
    self._warmup = config.warmup_iterations
    self._longest = longest
    self._size = 1.0

  def target(self, iteration: int, stop: int) -> int:
    """Where the next call ends, at most `stop`."""
    ends = [stop, iteration + int(self._size)]
    if iteration < self._warmup:
      ends.append(self._warmup)
    if self._longest:
      ends.append(iteration + self._longest)
    return min(ends)

  def took(self, start: int, end: int, seconds: float) -> None:
    """Learns from a call.

    Args:
      start: the iteration it began with.
      end: the iteration it ended with.
      seconds: what it took.
    """
    if start < self._warmup <= end:
      self._size = 1.0
    elif end > start:
      fits = (end - start) * SECONDS / max(seconds, 1e-6)
      self._size = max(1.0, min(fits, self._size * GROWTH))
