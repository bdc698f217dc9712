"""Evaluations that are played by other processes."""

import os
import pickle
import signal
import time

import jax
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner, envs, from_preset
from mjx_crossq.errors import RunError
from mjx_crossq.host import run as loop
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.evaluation import StockEvaluation
from mjx_crossq.host.workers import Workers, _of_rows
from mjx_crossq.learner import numpy_policy
from mjx_crossq.learner.policy_layers import policy_layers
from tests.reliability import runs, stock

CONFIG = runs.config(task=stock.TASK, num_seeds=3, eval_episodes=2)


SECONDS = 300  # until a hang is one


def gone(process_id):
  try:
    os.kill(process_id, 0)
  except ProcessLookupError:
    return True
  return False


@pytest.fixture(scope='module')
def runner():
  return Runner(CONFIG, stock.env())


def test_returns_are_those_of_the_run_itself(runner):
  """Of every seed and episode, at two env steps, however they are divided.

  Signals of a terminal leave the processes to the run, and one that dies is one
  error.
  """
  policy = runner.init().agent.actor.network
  host = jax.device_get(policy)
  here = StockEvaluation(runner, stock.env())
  expected = [here.returns(policy, step) for step in (40, 80)]
  assert len(np.unique(expected)) == 12
  found = []
  for count in (1, 2):
    with Workers(runner, stock.env(), count) as workers:
      assert len(workers.process_ids) == count
      playing = [workers.play(host, step) for step in (40, 80)]
      found.append([future.result(SECONDS) for future in playing])
      for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(workers.process_ids[0], number)
      again = workers.play(host, 40).result(SECONDS)
      np.testing.assert_array_equal(again, found[0][0])
      os.kill(workers.process_ids[-1], signal.SIGKILL)
      with pytest.raises(RunError, match='has ended with code -9; go on with'):
        workers.play(host, 80).result(SECONDS)
    assert all(map(gone, workers.process_ids))
  np.testing.assert_array_equal(found[0], found[1])
  np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
  'settings', [{'preset': 'bro'}, {'normalization': 'layer'}, {}]
)
def test_a_decision_is_that_of_the_network(settings):
  """The NumPy policy of several seeds at once, of each kind of layer."""
  preset = settings.pop('preset', 'crossq_wn')
  small = {'actor_width': 8, 'critic_width': 8, 'replay_capacity': 80}
  config = from_preset(preset, num_seeds=2, **small, **settings)
  config = config.replace(task=stock.TASK, action_repeat=2)
  runner = Runner(config, stock.env())
  network = runner.init().agent.actor.network
  rows = [1, 0, 1, 0]
  obs = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
  layers = [
    (kind, {name: _of_rows(x, rows) for name, x in values.items()})
    for kind, values in policy_layers(config, network)
  ]
  found = numpy_policy.act(layers, obs[:, None])[:, 0]
  expected = runner.act(network, np.stack([obs, obs]))
  np.testing.assert_allclose(
    found, expected[rows, np.arange(4)], rtol=0, atol=1e-5
  )


class Local(stock.Stocked):
  """Breaks where it is to play."""

  def stock_env(self, seed):
    raise KeyError('no such model')


def test_an_environment_that_cannot_play_there(runner):
  policy = jax.device_get(runner.init().agent.actor.network)
  with (
    Workers(runner, Local(10), 1) as workers,
    pytest.raises(RunError, match=r'no such model.*--noeval_async'),
  ):
    workers.play(policy, 40).result(SECONDS)
  unsent = stock.env()
  unsent.model = lambda: None
  with pytest.raises(ConfigError, match='take --noeval_async'):
    Workers(runner, unsent, 1)


@pytest.mark.parametrize('task', ['quadruped-run', 'lqr-lqr_2_1'])
def test_the_suite_is_sent_by_name(task):
  env = pickle.loads(pickle.dumps(envs.load(task).stock_only()))
  assert len(pickle.dumps(env)) < 200
  assert env.stock_env(0).reset().first()


def train(workdir, **changes):
  return loop.train(
    CONFIG.replace(**changes),
    stock.env(),
    workdir=workdir,
    resume=True,
    report=lambda _: None,
    eval_async=True,
  )


@pytest.mark.slow
def test_an_error_leaves_what_was_not_finished_in_the_checkpoint(
  tmp_path, monkeypatch
):
  """And the run goes on from it to the records of the undisturbed one."""
  train(tmp_path / 'whole', keep_best=True)
  play = Workers.play

  def slow(self, policy, step):
    if step == 80:
      os.kill(self.process_ids[0], signal.SIGKILL)
      time.sleep(0.1)
    return play(self, policy, step)

  with monkeypatch.context() as patch:
    patch.setattr(Workers, 'play', slow)
    with pytest.raises(RunError, match='code -9'):
      train(tmp_path / 'run', keep_best=True)
  runner = Runner(CONFIG, stock.env())
  like = runner.abstract_state().agent.actor.network
  with Checkpointer(tmp_path / 'run' / 'checkpoints') as checkpointer:
    last = checkpointer.steps()[-1]
    _, pending = checkpointer.restore_evaluations(last, like)
  assert list(pending) == [80]
  assert not any(row[1] == '80' for row in runs.evaluations(tmp_path / 'run'))
  train(tmp_path / 'run', keep_best=True)
  whole = runs.evaluations(tmp_path / 'whole')
  assert runs.evaluations(tmp_path / 'run') == whole
  assert [row[1:3] for row in whole[1::6]] == [
    [step, physics]
    for step in ('40', '80', '120')
    for physics in ('mjx', 'dm_control')
  ]
