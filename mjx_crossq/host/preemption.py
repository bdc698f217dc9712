"""Signals that end a process: save the state, say how to go on, and end."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_ALWAYS = (signal.SIGTERM, signal.SIGINT)
# Slurm's --signal, and a terminal that is closed. Windows has none of them.
_UNLESS_SET = tuple(
  getattr(signal, name)
  for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2')
  if hasattr(signal, name)
)


def signals() -> list[int]:
  """Signals that ask a process to stop.

  `nohup` and `launch.sweep` have a process ignore some, which stays so.
  """
  default = (s for s in _UNLESS_SET if signal.getsignal(s) is signal.SIG_DFL)
  return [*_ALWAYS, *default]


class Interrupted(SystemExit):
  """The run was asked to stop; its state is saved."""


class Preemption:
  """What a run does when it is asked to stop by a signal.

  The signals are handled within its context only. There a thread waits for
  them: Python runs handlers in the main thread, which may be in a compiled
  program or a compiler for minutes. While the state changes (`busy`), the main
  thread finishes its work, which is short, and then stops. At any other time
  the thread itself saves the state and ends the process.

  Attributes:
    signal: the signal that was received, or None.
  """

  def __init__(self):
    """Until `save_by` is called there is nothing to save."""
    self.signal: int | None = None
    self._busy = False
    self._save: Callable[[], Any] = lambda: None
    self._lock = threading.Lock()

  def __enter__(self) -> 'Preemption':
    """Installs the handlers; in the main thread only."""
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    # Python's C handler writes the signal's number to the pipe at once; a
    # handler in Python must be installed too, but has nothing to do.
    self._old = {s: signal.signal(s, lambda *_: None) for s in signals()}
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_: Any) -> None:
    """Restores the former handlers."""
    for number, handler in self._old.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._old_fd)
    os.close(self._write)
    self._thread.join()
    os.close(self._read)

  def save_by(self, save: Callable[[], Any]) -> None:
    """Sets how the state is saved, which stays as it is outside of `busy`.

    Args:
      save: saves it and says how to go on; may be called from a thread.
    """
    with self._lock:
      self._save = save

  @contextlib.contextmanager
  def busy(self) -> Iterator[None]:
    """The state changes, or is being saved: the thread must not save it."""
    with self._lock:
      self._busy = True
    try:
      yield
    finally:
      with self._lock:
        self._busy = False

  def stop_if_asked(self) -> None:
    """Saves the state and ends the run if a signal came while it was busy.

    Raises:
      Interrupted: a signal came.
    """
    if self.signal is not None:
      with self.busy():
        self._save()
        raise Interrupted(exit_code(self.signal))

  def _watch(self) -> None:
    received = set()
    while data := os.read(self._read, 1):
      number = data[0]
      if number not in self._old:
        continue
      if number in received and number in _ALWAYS:  # end without saving
        os._exit(128 + number)
      received.add(number)
      if len(received) > 1:
        continue  # a terminal's ^C, say, and then the sweep's SIGTERM
      with self._lock:
        self.signal = number
        if not self._busy:
          self._end(number)

  def _end(self, number: int) -> None:
    code = 1
    try:
      try:
        self._save()
        code = exit_code(number)
      except BaseException as error:
        print(f'error: {error}', file=sys.stderr)
      sys.stdout.flush()
      sys.stderr.flush()
    finally:  # also if nobody reads the output any more
      os._exit(code)


def exit_code(number: int) -> int:
  """0 after a preemption; 130 after ^C, as shells have it."""
  return 128 + number if number == signal.SIGINT else 0
