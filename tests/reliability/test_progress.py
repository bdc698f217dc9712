"""The line by which a person follows a run."""

import types

import numpy as np
import pytest

from mjx_crossq import Config
from mjx_crossq.host import progress


@pytest.fixture
def clock(monkeypatch):
  """The time, in seconds, that the module reads."""
  now = types.SimpleNamespace(seconds=100.0)
  monkeypatch.setattr(
    progress, 'time', types.SimpleNamespace(monotonic=lambda: now.seconds)
  )
  return now


def left(state, iteration):
  speeds = state.speeds(iteration, 1.0)
  return state.line(iteration, speeds, np.zeros(1), ['']).split('|')[-1].strip()


def test_the_warm_up_does_not_tell_how_long_learning_takes(clock):
  config = Config(action_repeat=1, warmup=100, env_steps=1100)
  state = progress.Progress(config, 0)
  clock.seconds += 1
  assert left(state, 50) == '-:-- left'
  clock.seconds += 1
  assert left(state, 100) == '-:-- left'
  clock.seconds += 20  # for 200 of 1,000 iterations with updates
  assert left(state, 300) == '1:20 left'
  clock.seconds += 80
  assert left(state, 1100) == '0:00 left'


def test_a_resumed_run_counts_its_own_time(clock):
  config = Config(action_repeat=1, warmup=100, env_steps=1100)
  state = progress.Progress(config, 600, elapsed=5000.0)
  clock.seconds += 30
  assert left(state, 800) == '0:45 left'
  assert state.elapsed() == 5030
