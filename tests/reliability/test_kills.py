"""Processes that are killed, preempted, or started twice."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mjx_crossq import Runner
from mjx_crossq.host import integrity
from mjx_crossq.host.checkpoint import Checkpointer
from tests.reliability import runs, stock

LONG = 6_000  # env steps; some seconds of training


def command(workdir, *args, env_steps):
  return [
    sys.executable,
    '-m',
    'tests.reliability.program',
    f'--workdir={workdir}',
    f'--env_steps={env_steps}',
    '--checkpoint_every=2000',
    '--log_every=1000',
    '--eval_every=2000',
    f'--task={stock.TASK}',
    '--resume',
    *args,
  ]


def start(workdir, *args, env_steps=LONG):
  return subprocess.Popen(
    command(workdir, *args, env_steps=env_steps),
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )


def wait_for(process, words, lines):
  """Reads the output until a line has these words."""
  for line in process.stdout:
    lines.append(line)
    if words in line:
      return
  raise AssertionError(f'{words!r} never came: {lines} {process.stderr.read()}')


def last(workdir, env_steps=LONG):
  config = runs.config(env_steps=env_steps)
  like = Runner(config, runs.env()).abstract_state()
  with Checkpointer(workdir / 'checkpoints', read_only=True) as checkpointer:
    return checkpointer.restore(env_steps, like)


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('whole') / 'run'
  process = start(workdir)
  _, errors = process.communicate(timeout=1200)
  assert process.returncode == 0, errors
  return workdir


def assert_same_run(workdir, undisturbed):
  """Nothing is lost, twice or torn, and all bits are the same."""
  runs.assert_same_bits(last(workdir), last(undisturbed))
  assert runs.records(workdir) == runs.records(undisturbed)
  assert runs.evaluations(workdir) == runs.evaluations(undisturbed)
  newest = integrity.saved(workdir / 'checkpoints')
  assert newest == integrity.saved(undisturbed / 'checkpoints')


@pytest.mark.parametrize('kills', [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_any_moment(undisturbed, tmp_path, kills):
  """SIGKILL at random times: before, in and after saves too.

  The evaluations of the killed processes are played beside the training.
  """
  rng = np.random.default_rng(kills)
  workdir = tmp_path / 'run'
  done = 0
  while done < kills:
    process = start(workdir, '--eval_async')
    lines = []
    if done % 4:  # others are killed while they start or compile
      wait_for(process, 'env steps |', lines)
    time.sleep(rng.exponential(0.5))
    if process.poll() is not None:
      break  # it reached its end
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done += 1
  process = start(workdir, '--eval_async')
  _, errors = process.communicate(timeout=1200)
  assert process.returncode == 0, errors
  assert_same_run(workdir, undisturbed)


@pytest.mark.parametrize(
  ('number', 'code'),
  [
    (signal.SIGTERM, 0),
    pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    pytest.param(signal.SIGUSR1, 0, marks=pytest.mark.slow),
  ],
)
def test_asked_to_stop(undisturbed, tmp_path, number, code):
  """It saves where it is, says how to go on, and loses nothing."""
  workdir = tmp_path / 'run'
  process = start(workdir, f'--eval_async={number == signal.SIGTERM}')
  lines = []
  wait_for(process, ' 3,000 / ', lines)
  process.send_signal(number)
  start_time = time.monotonic()
  rest, errors = process.communicate(timeout=120)
  seconds = time.monotonic() - start_time
  assert process.returncode == code, errors
  assert 'all is saved; to go on: the same command with --workdir' in rest
  assert seconds < 60  # hung otherwise; docs/reliability.md has the time
  newest = integrity.saved(workdir / 'checkpoints')[-1]
  assert newest >= 3000
  assert integrity.fault(workdir / 'checkpoints' / str(newest)) is None

  if number != signal.SIGINT:
    return  # The same handler; the rest takes another process.
  process = start(workdir)
  shown, errors = process.communicate(timeout=1200)
  assert process.returncode == 0, errors
  assert f'at env step {newest:,}\n' in shown
  runs.assert_same_bits(last(workdir), last(undisturbed))
  assert runs.records(workdir) == runs.records(undisturbed)
  assert runs.evaluations(workdir) == runs.evaluations(undisturbed)


@pytest.mark.slow
def test_a_terminal_that_is_closed(tmp_path):
  """SIGHUP, after which nothing can be printed any more."""
  workdir = tmp_path / 'run'
  ours, theirs = os.openpty()
  process = subprocess.Popen(
    command(workdir, env_steps=10**7),
    stdin=theirs,
    stdout=theirs,
    stderr=theirs,
    # The tests themselves may run under nohup.
    preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
  )
  os.close(theirs)
  try:
    shown = b''
    while b'env steps |' not in shown:
      shown += os.read(ours, 1000)
    os.close(ours)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=120) == 0
  finally:
    process.kill()
  newest = integrity.newest_intact(workdir / 'checkpoints')
  assert newest and newest >= 1000


def test_asked_to_stop_before_training(tmp_path):
  process = start(tmp_path / 'run')
  wait_for(process, 'compiling', [])
  process.send_signal(signal.SIGTERM)
  rest, errors = process.communicate(timeout=120)
  assert process.returncode == 0, errors
  assert '--resume' in rest


@pytest.mark.slow
def test_two_processes_on_one_workdir(tmp_path):
  workdir = tmp_path / 'run'
  first = start(workdir, env_steps=10**7)
  try:
    wait_for(first, 'env steps |', [])
    before = (workdir / 'config.json').read_text()
    second = start(workdir)
    _, errors = second.communicate(timeout=600)
    assert second.returncode == 2
    assert len(errors.strip().splitlines()) == 1
    assert f'another process (id {first.pid}) trains in' in errors
    assert (workdir / 'config.json').read_text() == before
    assert first.poll() is None
  finally:
    first.kill()
    first.communicate()


@pytest.mark.slow
def test_same_flags_same_bits(undisturbed, tmp_path):
  """In another process, and wherever the calls were cut."""
  process = start(tmp_path / 'again')
  _, errors = process.communicate(timeout=1200)
  assert process.returncode == 0, errors
  assert_same_run(tmp_path / 'again', undisturbed)
