"""How many iterations one call of the training program does."""

from mjx_crossq.config import Config

SECONDS = 5.0  # aimed at per call; a preempted run must save within 30 s
GROWTH = 4.0  # at most, from call to call


class Pace:
  """Chooses the calls' lengths so that the host can act every few seconds.

  Where calls end changes no number of the run (`Trainer.train_chunk`).
  """

  def __init__(self, config: Config, longest: int | None = None):
    """The first call is one iteration.

    Args:
      config: says when learning begins, from which on iterations are slower.
      longest: iterations of a call, at most; None for no limit.
    """
    self._warmup = config.warmup_iterations
    self._longest = longest
    self._size = 1.0

  def target(self, iteration: int, stop: int) -> int:
    """The iteration at which the next call ends, at most `stop`."""
    ends = [stop, iteration + int(self._size)]
    if iteration < self._warmup:
      ends.append(self._warmup)
    if self._longest:
      ends.append(iteration + self._longest)
    return min(ends)

  def took(self, start: int, end: int, seconds: float) -> None:
    """Adapts the length to the time that a call took.

    Args:
      start: the iteration at which the call began.
      end: the iteration at which it ended.
      seconds: its duration.
    """
    if start < self._warmup <= end:
      self._size = 1.0
    elif end > start:
      fits = (end - start) * SECONDS / max(seconds, 1e-6)
      self._size = max(1.0, min(fits, self._size * GROWTH))
