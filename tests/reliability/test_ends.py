"""Runs that end before their budget, and the best policy that they keep."""

import json
import os
import shutil

import jax
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner, load_policy
from mjx_crossq.host import items
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.launch.jobs import jobs
from mjx_crossq.results import curves
from tests.reliability import runs

SCORES = {40: 3.0, 80: 9.0, 120: 5.0}
"""Of the evaluations, in place of measured ones, at each env step."""


@pytest.fixture
def scores(monkeypatch):
  """Seed 1 has a return of 1 more than seed 0; returns the evaluated steps."""
  seen = []

  def returns(self, policy, step):
    seen.append(step)
    return SCORES[step] + np.array([[0.0, 0.0], [1.0, 1.0]]) + 1e-8

  monkeypatch.setattr(Runner, 'evaluate', returns)
  return seen


def saved(workdir):
  return sorted(int(name) for name in os.listdir(workdir / 'checkpoints'))


@pytest.mark.parametrize(
  ('settings', 'end'),
  [
    ({'stop_at_return': 9.0}, 80),
    ({'stop_at_return': 9.5}, 120),
    pytest.param(
      {'stop_at_return': 9.5, 'stop_when': 'any'}, 80, marks=pytest.mark.slow
    ),
    ({'stop_at_return': 3.5, 'stop_when': 'any', 'checkpoint_every': 0}, 40),
  ],
)
def test_a_run_ends_at_a_return(tmp_path, scores, settings, end):
  result = runs.train(tmp_path, **settings)
  assert result.runner.iteration(result.state) * 4 == end
  assert saved(tmp_path)[-1] == end == scores[-1]
  run = curves.Run.read(tmp_path)
  assert max(run.returns()[0]) == end
  config = runs.config(**settings)
  assert jobs.complete(config, tmp_path)
  # The same command finds that it has ended, and a higher return goes on.
  before = runs.evaluations(tmp_path)
  again = runs.train(tmp_path, **settings)
  assert runs.evaluations(tmp_path) == before and scores[-1] == end
  np.testing.assert_array_equal(
    again.returns['mjx'], SCORES[end] + np.array([[0.0, 0.0], [1.0, 1.0]])
  )
  settings = settings | {'stop_at_return': 100.0}
  assert jobs.complete(config.replace(**settings), tmp_path) == (end == 120)
  runs.train(tmp_path, **settings)
  assert scores == [40, 80, 120]
  assert saved(tmp_path)[-1] == 120


def test_a_function_ends_a_run(tmp_path, scores):
  """It gets the returns as the file has them, so a resumed run agrees."""
  got = []

  def stop(step, returns):
    got.append((step, returns['mjx'][1, 0]))
    return returns['mjx'].mean() >= 9

  runs.train(tmp_path, stop=stop)
  runs.train(tmp_path, stop=stop)
  assert got == [(40, 4.0), (80, 10.0), (80, 10.0)]

  def fails(*_):
    raise RuntimeError('mine')

  with pytest.raises(RuntimeError, match='mine'):
    runs.train(tmp_path, stop=fails)


def test_a_run_without_its_last_evaluation_is_not_complete(
  undisturbed, tmp_path
):
  """As a signal leaves it between its last checkpoint and that evaluation."""
  config, cut = runs.config(), tmp_path / 'run'
  assert jobs.complete(config, undisturbed.workdir)
  shutil.copytree(undisturbed.workdir, cut)
  lines = (cut / 'eval.csv').read_text().splitlines(keepends=True)
  (cut / 'eval.csv').write_text(''.join(lines[:-1]))
  assert jobs.reached(config, cut) == runs.WHOLE
  assert not jobs.complete(config, cut)
  (cut / 'eval.csv').unlink()
  assert not jobs.complete(config, cut)


def best(workdir, step):
  like = Runner(runs.config(), runs.env()).abstract_state().agent.actor.network
  with Checkpointer(workdir / 'checkpoints', read_only=True) as checkpointer:
    found, pending = checkpointer.restore_evaluations(step, like)
    assert pending == {}
    policy = checkpointer.restore_policy(80, like)
  return found, policy


def test_the_best_policy_is_kept(tmp_path, scores):
  runs.train(tmp_path / 'a', keep_best=True)
  found, policy = best(tmp_path / 'a', 120)
  assert (found.step, found.score) == (80, 9.5 + 1e-8)
  runs.assert_same_bits(found.policy, policy)
  # Killed after the best one, and after the first: it is the same again.
  for name, gone in (('b', (120,)), ('c', (80, 120))):
    shutil.copytree(tmp_path / 'a', tmp_path / name)
    for step in gone:
      shutil.rmtree(tmp_path / name / 'checkpoints' / str(step))
    runs.train(tmp_path / name, keep_best=True)
    again, _ = best(tmp_path / name, 120)
    assert (again.step, again.score) == (80, 9.5 + 1e-8)
    runs.assert_same_bits(again.policy, found.policy)
  # Readers take it by name.
  path = tmp_path / 'a' / 'config.json'
  record = json.loads(path.read_text())
  record['config']['task'] = 'tests.reliability.runs:env'
  path.write_text(json.dumps(record))
  _, loaded, step = load_policy(
    tmp_path / 'a', lambda *_, **__: runs.env(), 'best'
  )
  assert step == 80
  runs.assert_same_bits(loaded, policy)


def test_a_checkpoint_from_before_its_evaluation_is_completed(
  tmp_path, scores, monkeypatch
):
  """As SIGTERM leaves it between the last call and the last evaluation."""

  monkeypatch.delitem(SCORES, 120)
  with pytest.raises(KeyError):  # the evaluation fails, and the state is saved
    runs.train(tmp_path, keep_best=True)
  assert best(tmp_path, 120)[0].step == 80
  monkeypatch.setitem(SCORES, 120, 20.0)
  runs.train(tmp_path, keep_best=True)
  found, _ = best(tmp_path, 120)
  assert (found.step, found.score) == (120, 20.5 + 1e-8)


def test_pending_evaluations_are_repeated(tmp_path, scores):
  """Those of a checkpoint, from its policies; their rows are written anew."""
  runs.train(tmp_path, env_steps=80)
  runner = Runner(runs.config(), runs.env())
  with Checkpointer(tmp_path / 'checkpoints') as checkpointer:
    state = checkpointer.restore(80, runner.abstract_state())
    policy = jax.device_get(state.agent.actor.network)
    checkpointer.replace(80, state, pending={40: policy})
    checkpointer.wait()
    (step,) = checkpointer.restore_evaluations(80, policy)[1]
    assert step == 40
  rows = runs.evaluations(tmp_path)
  runs.train(tmp_path)
  assert scores == [40, 80, 40, 120]
  again = runs.evaluations(tmp_path)
  assert sorted(again[:9]) == sorted(rows) and len(again) == 13


def test_without_a_best_policy(tmp_path, scores):
  runs.train(tmp_path, env_steps=40)
  with pytest.raises(ConfigError, match='train with --keep_best'):
    load_policy(tmp_path, lambda *_, **__: runs.env(), 'best')
  with pytest.raises(ConfigError, match='vary makes several runs'):
    runs.config(keep_best=True, vary=('gamma=0.9,0.99',))
  assert items.to_dict({'a': np.zeros(0)}) == {}
