"""What the physics left out, counted while a run trains, and what ends it."""

import os

import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner
from mjx_crossq.errors import RunError
from mjx_crossq.host import run as loop
from mjx_crossq.host.checkpoint import Checkpointer
from tests.learner.probes import Watched
from tests.reliability import runs


def watched(first, ends_at=None):
  env = Watched(first, ends_at=ends_at)
  env.name = 'counter'
  return env


def train(workdir, env, report=runs.quiet, **changes):
  config = runs.config(**changes)
  return loop.train(config, env, workdir=workdir, resume=True, report=report)


def test_counts_of_all_env_steps_of_a_seed():
  # Steps 7 to 10 of every episode of 10, in 2 environments.
  runner = Runner(runs.config(), watched(7))
  state, sums = runner.train_chunk(runner.init(), 5)
  np.testing.assert_array_equal(sums['contacts_dropped'], [8, 8])
  np.testing.assert_array_equal(sums['solver_capped'], [16, 16])
  _, sums = runner.train_chunk(state, 20, sums)
  np.testing.assert_array_equal(sums['contacts_dropped'], [32, 32])
  # An episode that ends at 7, in the middle of a decision: only that step.
  runner = Runner(runs.config(), watched(7, ends_at=7))
  _, sums = runner.train_chunk(runner.init(), 4)
  np.testing.assert_array_equal(sums['contacts_dropped'], [2, 2])


def test_what_is_counted_changes_nothing(tmp_path):
  plain = runs.train(tmp_path / 'a')
  counted = train(tmp_path / 'b', watched(3))
  runs.assert_same_bits(plain.state, counted.state)
  for one, two in zip(
    runs.records(tmp_path / 'a'), runs.records(tmp_path / 'b'), strict=True
  ):
    # Steps 3 to 10 of the 10 of an episode in the 5 decisions between logs.
    assert two.pop('train/contacts_dropped') == 16
    assert two.pop('train/solver_capped') == 32
    assert one == two


def test_a_run_ends_at_the_first_count(tmp_path):
  env, lines = watched(3), []
  with pytest.raises(RunError) as error:
    train(tmp_path, env, lines.append, stop_if_unfaithful=True)
  text = str(error.value)
  assert 'before env step 20, ' in text
  assert 'contacts_dropped 32, solver_capped 64' in text
  assert '--resume without --stop_if_unfaithful' in text
  assert any('env step 20, all is saved' in line for line in lines)
  assert os.listdir(tmp_path / 'checkpoints') == ['20']
  # Its continuation looks at what comes then, and without the flag goes on.
  with pytest.raises(RunError, match='before env step 40, '):
    train(tmp_path, env, stop_if_unfaithful=True)
  assert len(runs.records(tmp_path)) == 4
  result = train(tmp_path, env)
  runs.assert_same_bits(
    result.state, train(tmp_path.with_suffix('.b'), env).state
  )


def test_a_run_without_counts_reaches_its_end(tmp_path):
  train(tmp_path, watched(99), stop_if_unfaithful=True)
  for record in runs.records(tmp_path):
    assert record['train/contacts_dropped'] == 0


def test_an_environment_that_counts_nothing_is_refused(tmp_path):
  with pytest.raises(ConfigError, match='counter with physics=mjx counts'):
    runs.train(tmp_path, stop_if_unfaithful=True)
  assert not os.listdir(tmp_path)


def test_sums_of_a_checkpoint_without_these_counts(tmp_path):
  """One of an older version, between two log points."""
  older = Runner(runs.config(), runs.env())
  runner = Runner(runs.config(), watched(3))
  sums = {name: x + 5 for name, x in older.zero_sums().items()}
  with Checkpointer(tmp_path) as checkpointer:
    checkpointer.save(20, older.init(), sums)
    checkpointer.wait()
    found = checkpointer.restore_sums(20, runner.zero_sums())
  assert found is not None and found.keys() == runner.zero_sums().keys()
  for name, value in found.items():
    np.testing.assert_array_equal(value, 0 if name in Watched.watched else 5)
