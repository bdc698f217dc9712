"""Tasks as Stable-Baselines3's VecEnv, and its PPO on them."""

import importlib
import sys

import numpy as np
import pytest

from mjx_crossq.envs.vector import VectorEnv

from . import checks
from .test_gymnasium import Line


@pytest.fixture(scope='module')
def sb3():
  pytest.importorskip('stable_baselines3')
  from mjx_crossq.envs import sb3

  return sb3


def test_steps_are_those_of_the_vector_env(sb3):
  batch = sb3.VecEnv(Line(), 4, seed=3)
  other = VectorEnv(Line(), 4, autoreset_mode='SameStep')
  np.testing.assert_array_equal(batch.reset(), other.reset(seed=3)[0])
  ends = np.zeros(2, int)
  for actions in np.random.default_rng(0).uniform(-1, 1, (30, 4, 1)):
    obs, rewards, dones, infos = batch.step(actions)
    expected = other.step(actions)
    np.testing.assert_array_equal(obs, expected[0])
    np.testing.assert_allclose(rewards, expected[1], rtol=1e-6)
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(dones, expected[2] | expected[3])
    for row, info in enumerate(infos):
      assert bool(info) == dones[row]
      if info:
        assert info['TimeLimit.truncated'] == expected[3][row]
        last = expected[4]['final_obs'][row]
        np.testing.assert_array_equal(info['terminal_observation'], last)
        ends[int(info['TimeLimit.truncated'])] += 1
        assert 1 <= info['episode']['l'] <= 6
  assert (ends > 3).all()
  later = batch.reset()
  batch.seed(3)
  np.testing.assert_array_equal(batch.reset(), other.reset(seed=3)[0])
  assert (later != batch.reset()).all()
  assert batch.get_attr('render_mode') == [None] * 4
  assert batch.env_is_wrapped(object, [0]) == [False]
  batch.close()


def test_ppo_trains(sb3):
  from stable_baselines3 import PPO

  batch = sb3.VecEnv(checks.load('pendulum-swingup'), 8, max_episode_steps=50)
  model = PPO('MlpPolicy', batch, n_steps=64, batch_size=128, n_epochs=2)
  before = [p.detach().clone() for p in model.policy.parameters()]
  model.learn(2000)
  assert model.num_timesteps >= 2000
  moved = [
    bool((a != b).any())
    for a, b in zip(before, model.policy.parameters(), strict=True)
  ]
  assert any(moved)
  assert {info['l'] for info in model.ep_info_buffer or ()} == {50}


def test_missing_sb3_is_named(monkeypatch):
  for name in ('stable_baselines3', 'stable_baselines3.common'):
    monkeypatch.setitem(sys.modules, name, None)
  monkeypatch.delitem(sys.modules, 'mjx_crossq.envs.sb3', raising=False)
  with pytest.raises(ImportError, match=r'mjx-crossq\[sb3\]'):
    importlib.import_module('mjx_crossq.envs.sb3')
