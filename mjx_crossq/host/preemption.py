"""SIGTERM and SIGINT: save, say how to go on, and end."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_ABORT = 0  # in the pipe in place of a signal's number


class Interrupted(SystemExit):
  """The run was asked to stop and has saved what it needs to go on."""


class Preemption:
  """What a run does when it is asked to stop.

  Outside a context it watches for nothing. Within one, a thread waits for
  the signals: Python runs handlers in the main thread only, which may be in
  a compiled program or a compiler for minutes. A chunk of training is short
  and ends first, then the main thread stops; at any other time the state
  does not change, and the thread itself saves it and ends the process.

  Attributes:
    signal: the signal that has come, or None.
    reason: why the run itself must stop, or None.
  """

  def __init__(self):
    """Watches for nothing yet."""
    self.signal: int | None = None
    self.reason: str | None = None
    self._asked = False
    self._busy = False
    self._save: Callable[[], Any] = lambda: None
    self._lock = threading.Lock()

  def __enter__(self) -> 'Preemption':
    """Takes over the signals; for the main thread only."""
    self._read, self._write = os.pipe()
    os.set_blocking(self._write, False)
    self._old_fd = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
    # C writes to the pipe at once; the handler in Python has nothing to do.
    self._old = {s: signal.signal(s, lambda *_: None) for s in SIGNALS}
    self._thread = threading.Thread(target=self._watch, daemon=True)
    self._thread.start()
    return self

  def __exit__(self, *_: Any) -> None:
    """Gives the signals back."""
    for number, handler in self._old.items():
      signal.signal(number, handler)
    signal.set_wakeup_fd(self._old_fd)
    os.close(self._write)
    self._thread.join()
    os.close(self._read)

  def rest(self, save: Callable[[], Any]) -> None:
    """The state will not change until `busy`.

    Args:
      save: saves it and says how to go on; may be called from a thread.
    """
    with self._lock:
      self._save = save

  @contextlib.contextmanager
  def busy(self) -> Iterator[None]:
    """The state changes, or is being saved: the thread keeps its hands off."""
    with self._lock:
      self._busy = True
    try:
      yield
    finally:
      with self._lock:
        self._busy = False

  def stop_if_asked(self) -> None:
    """Saves and leaves, if a signal has come while the run was busy.

    Raises:
      Interrupted: it has.
    """
    if self.signal is not None:
      with self.busy():
        self._save()
        raise Interrupted(self._code(self.signal))

  def abort(self, reason: str) -> None:
    """Stops the run as SIGTERM does, but with an error; from any thread.

    Args:
      reason: printed as one line when the state is saved.
    """
    if self.signal is None:  # else it stops already
      self.reason = reason
    with contextlib.suppress(OSError, AttributeError):  # not in a context
      os.write(self._write, bytes([_ABORT]))

  def _code(self, number: int) -> int:
    if self.reason is None:
      return exit_code(number)
    print(f'error: {self.reason}', file=sys.stderr, flush=True)
    return 1

  def _watch(self) -> None:
    while data := os.read(self._read, 1):
      number = data[0]
      if number in SIGNALS:
        if self._asked:  # asked twice: at once
          os._exit(128 + number)
        self._asked = True
      elif number != _ABORT:
        continue
      with self._lock:
        if self.signal is not None:  # it stops already
          continue
        self.signal = number or signal.SIGTERM
        if not self._busy:
          self._end(self.signal)

  def _end(self, number: int) -> None:
    try:
      self._save()
      code = self._code(number)
    except BaseException as error:
      print(f'error: {error}', file=sys.stderr)
      code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_code(number: int) -> int:
  """0 for a preemption, 130 for ^C, as shells have it."""
  return 0 if number == signal.SIGTERM else 128 + number
