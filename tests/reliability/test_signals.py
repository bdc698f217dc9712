"""Signals that ask a process to stop, without a process of its own."""

import contextlib
import os
import signal
import time

import pytest

from mjx_crossq.host import preemption
from mjx_crossq.launch import cli

NUMBERS = {
  signal.SIGTERM: 0,
  signal.SIGINT: 130,
  signal.SIGHUP: 0,
  signal.SIGUSR1: 0,
  signal.SIGUSR2: 0,
}


@contextlib.contextmanager
def handled(number, handler):
  before = signal.signal(number, handler)
  try:
    yield
  finally:
    signal.signal(number, before)


@pytest.fixture(autouse=True)
def defaults():
  """Nothing is set or ignored, even if these tests run under nohup."""
  with contextlib.ExitStack() as stack:
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
      stack.enter_context(handled(number, signal.SIG_DFL))
    yield


def send(number, found):
  """Sends a signal, and waits until the thread has seen it."""
  os.kill(os.getpid(), number)
  for _ in range(500):
    if found.signal is not None:
      return
    time.sleep(0.01)
  raise AssertionError(f'{number} was not seen')


@pytest.mark.parametrize('number', NUMBERS)
def test_all_of_them_save_and_stop(number):
  saved = []
  with preemption.Preemption() as found:
    found.save_by(lambda: saved.append(1))
    with found.busy():
      send(number, found)
    with pytest.raises(preemption.Interrupted) as stop:
      found.stop_if_asked()
  assert saved == [1] and stop.value.code == NUMBERS[number]


@pytest.mark.parametrize(
  ('first', 'second'),
  [
    (signal.SIGHUP, signal.SIGHUP),  # of the shell and of the kernel
    (signal.SIGUSR1, signal.SIGTERM),  # before Slurm's limit, and at it
    (signal.SIGINT, signal.SIGTERM),  # of the terminal, and of launch.sweep
  ],
)
def test_a_second_one_does_not_stop_the_saving(first, second):
  with preemption.Preemption() as found:
    with found.busy():
      send(first, found)
      os.kill(os.getpid(), second)
      time.sleep(0.2)  # it would have ended this process
    with pytest.raises(preemption.Interrupted):
      found.stop_if_asked()
  assert found.signal == first


@pytest.mark.parametrize('number', [signal.SIGHUP, signal.SIGUSR2])
def test_what_is_ignored_stays_so(number):
  """`nohup`, and the processes of a sweep under Slurm."""
  with handled(number, signal.SIG_IGN):
    assert number not in preemption.signals()
    with preemption.Preemption() as found:
      assert signal.getsignal(number) is signal.SIG_IGN
      os.kill(os.getpid(), number)
      time.sleep(0.05)
      found.stop_if_asked()


def test_programs_that_start_others_stop_as_by_ctrl_c(monkeypatch):
  monkeypatch.setattr(cli, 'run', lambda *_: None)
  before = {number: signal.getsignal(number) for number in NUMBERS}
  try:
    cli.run_jobs(lambda: None, '')
    for number in NUMBERS:
      with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        time.sleep(0.05)
  finally:
    for number, handler in before.items():
      signal.signal(number, handler)
