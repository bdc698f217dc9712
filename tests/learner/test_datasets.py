"""The replay as a file, and a file as the first contents of a replay."""

import json

import jax
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner, datasets, train
from tests.reliability import runs

CONFIG = runs.config(task='tests.reliability.runs:env')


@pytest.fixture(scope='module')
def file(tmp_path_factory):
  folder = tmp_path_factory.mktemp('replay') / 'run'
  train(CONFIG, runs.env(), workdir=folder, report=lambda line: None)
  return datasets.export(folder, seed=1)


def test_transitions_are_in_order(file):
  assert file.name == 'replay-seed1-step120.npz'
  with np.load(file) as stored:
    found = dict(stored)
  meta = json.loads(str(found.pop('meta')))
  assert (meta['seed'], meta['env_step']) == (1, 120)
  # The last 80 env steps, of 2 each, in 2 environments; an episode has 5 rows.
  obs, next_obs = found['obs'], found['next_obs']
  assert {len(x) for x in found.values()} == {40}
  np.testing.assert_array_equal(next_obs[:, 1] - obs[:, 1], 2)
  np.testing.assert_array_equal(next_obs[:, 0], obs[:, 0])
  np.testing.assert_array_equal(obs[:, 1], np.tile([0, 2, 4, 6, 8], 8))
  np.testing.assert_array_equal(found['episode_start'], obs[:, 1] == 0)
  assert len(np.unique(obs[:, 0])) == 8
  np.testing.assert_array_equal(found['reward'], 2 * obs[:, 1] + 3)
  np.testing.assert_array_equal(found['mask'], 1)


def test_a_replay_begins_with_a_file(file):
  loaded = datasets.load(file, runs.env(), CONFIG)
  config = CONFIG.replace(init_transitions=40, replay_capacity=100)
  runner = Runner(config, runs.env())
  state = runner.init(loaded)
  replay = runner.trainer.replay
  drawn = replay.sample(state.replay[0], jax.random.key(0), 256, 0)
  stored = {tuple(row) for row in np.asarray(loaded.obs)}
  assert {tuple(row) for row in np.asarray(drawn.obs)} == stored
  # Ten rows are free: the oldest of the file go first.
  state, _ = runner.train_chunk(state, 6)
  found, times = replay.in_order(np.asarray(state.replay)[1], 6)
  np.testing.assert_array_equal(times, np.arange(-19, 6))
  kept = np.asarray(loaded.obs)[2:].reshape(19, 2, 2)
  np.testing.assert_array_equal(found.obs[:19], kept)
  np.testing.assert_array_equal(
    found.obs[19:, :, 1], np.array([[0, 2, 4, 6, 8, 0]] * 2).T
  )


@pytest.mark.slow
def test_a_run_goes_on_without_the_file(file, tmp_path):
  loaded = datasets.load(file, runs.env(), CONFIG)
  config = CONFIG.replace(init_transitions=40, env_steps=40)
  quiet = {'report': lambda line: None, 'workdir': tmp_path / 'run'}
  with pytest.raises(ConfigError, match='--init_replay=FILE'):
    train(config, runs.env(), **quiet)
  assert not (tmp_path / 'run').exists()
  train(config, runs.env(), transitions=loaded, **quiet)
  result = train(config.replace(env_steps=80), runs.env(), resume=True, **quiet)
  assert np.isfinite(result.returns['mjx']).all()


WRONG = {
  'type': (lambda x: x | {'obs': np.float64(x['obs'])}, 'obs is float64'),
  'size': (lambda x: x | {'obs': x['obs'][:, :1]}, r'obs is float32\[40, 1\]'),
  'count': (lambda x: x | {'reward': x['reward'][1:]}, 'reward is'),
  'missing': (lambda x: {k: v for k, v in x.items() if k != 'mask'}, 'intact'),
  'infinite': (lambda x: x | {'reward': x['reward'] / 0}, 'finite'),
  'action': (lambda x: x | {'action': x['action'] * 0 + 2}, 'actions in'),
  'mask': (lambda x: x | {'mask': x['mask'] / 2}, 'masks 0 or 1'),
  'odd': (
    lambda x: {k: v[1:] for k, v in x.items()},
    'of num_envs=2',
  ),
  'empty': (lambda x: {k: v[:0] for k, v in x.items()}, 'mask is|obs is'),
  'many': (
    lambda x: {k: np.concatenate([v, v]) for k, v in x.items()},
    'has 80 transitions; the replay holds 40',
  ),
}


@pytest.mark.filterwarnings('ignore:divide by zero')
@pytest.mark.parametrize('case', WRONG)
def test_files_are_checked(file, tmp_path, case):
  change, message = WRONG[case]
  with np.load(file) as stored:
    arrays = {k: v for k, v in stored.items() if k != 'meta'}
  np.savez(tmp_path / 'wrong.npz', **change(arrays))
  with pytest.raises(ConfigError, match=message):
    datasets.load(tmp_path / 'wrong.npz', runs.env(), CONFIG)


@pytest.mark.parametrize('content', [None, b'', b'PK', b'no numbers'])
def test_files_that_are_none(tmp_path, content):
  path = tmp_path / 'wrong.npz'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(ConfigError, match='no intact file'):
    datasets.load(path, runs.env(), CONFIG)


def test_runs_without_a_replay_are_refused(file, tmp_path):
  with pytest.raises(ConfigError, match=r'config\.json'):
    datasets.export(tmp_path)
  with pytest.raises(ConfigError, match='no replay of seed 5'):
    datasets.export(file.parent, seed=5)
  with pytest.raises(ConfigError, match='no checkpoint at env step 7'):
    datasets.export(file.parent, step=7)
