"""The measurements of whole episodes."""

import copy
import functools

import jax
import jax.numpy as jp
import numpy as np
import pytest

from mjx_crossq.envs import suite
from mjx_crossq.envs.parity import contacts, measures, rollouts

from . import checks


def test_returns_from_equal_states_are_equal():
  env = checks.load('point_mass-easy')

  def policy(obs):  # Brakes on the way to the origin.
    return jp.clip(-5 * obs[:, :2] - 5 * obs[:, 2:], -1, 1)

  ours, stock = rollouts.episodes(env, policy, 5)
  assert ours.keys() == stock.keys() == {'return', 'obs'}
  assert ours['return'].shape == stock['return'].shape == (5,)
  assert ours['obs'].shape == stock['obs'].shape == (5, 4)
  assert np.ptp(stock['return']) > 0.1
  for key, values in stock.items():
    np.testing.assert_allclose(ours[key], values, rtol=1e-3, atol=1e-3)


def test_means_of_what_stays_as_it_is_are_not_rounded():
  """A target that many episodes share must have equal means in both."""
  env = checks.load('point_mass-easy')

  def rest(obs):
    return jp.zeros((len(obs), env.action_size))

  ours, stock = rollouts.episodes(env, rest, 5)
  assert np.abs(stock['obs'][:, :2]).min() > 0
  np.testing.assert_allclose(ours['obs'], stock['obs'], rtol=2e-7, atol=1e-12)


def test_samples_of_what_stock_never_does():
  """What ours does once in 100 episodes may be chance; in 20 it is none."""
  stock, ours = np.zeros(100), np.zeros(100)
  pvalue = functools.partial(measures.two_sample_pvalue, rare=True)
  for way in (pvalue, measures.two_sample_pvalue):
    assert way(ours + 1e-7, stock) == 1
    assert way(ours + 1e-3, stock) == 0
  ours[:1] = 0.01
  assert pvalue(ours, stock) == 1
  assert measures.two_sample_pvalue(ours, stock) == 0
  ours[:20] = 0.01
  assert pvalue(ours, stock) < 1e-4


def test_what_a_floating_body_does():
  env = copy.copy(checks.load('quadruped-run'))
  low = 0.6 * env.mj_model.qpos0[2]
  heights = low + np.array([[1, -1, -2, 1, -1], [1, 1, 1, 2, 2]]) / 10
  sums = None
  for step in range(1, 5):
    qpos = np.zeros((2, 7))
    before = qpos.copy()
    before[:, 2], qpos[:, 2] = heights[:, step - 1], heights[:, step]
    qvel = np.array([[3.0, 4, 9], [0, -step, 9]])
    obs = np.full((2, 1), float(step))
    alive = np.array([1.0, step < 3])  # The second one ends after two steps.
    seen = rollouts._seen(env, np.ones(2), obs, qpos, qvel, before)
    sums = rollouts._add(sums, seen, alive)
  result = rollouts._means(sums)
  np.testing.assert_array_equal(result['return'], [4, 2])
  np.testing.assert_array_equal(result['falls'], [2, 0])
  np.testing.assert_array_equal(result['obs'], [[2.5], [1.5]])
  np.testing.assert_allclose(result['speed'], [5, 1.5])
  np.testing.assert_allclose(result['height'], low + np.array([-0.075, 0.1]))


def test_random_policy_reacts_within_bounds():
  env = checks.load('hopper-hop')
  obs = 10 * jax.random.normal(jax.random.key(0), (2000, env.observation_size))
  policy = rollouts.random_policy(env)
  action = np.asarray(policy(obs))
  assert action.shape == (2000, env.action_size)
  assert np.abs(action).max() <= 1
  assert action.std(axis=0).min() > 0.1
  np.testing.assert_array_equal(action, rollouts.random_policy(env)(obs))


@pytest.mark.parametrize('task', ('hopper-hop', 'quadruped-run'))
def test_no_contact_is_dropped(task):
  result = contacts.contacts(checks.load(task), 500)
  assert result['dropped'] == result['dropped_force'] == 0
  assert 0 < result['most'] <= result['slots']


def test_dropped_contacts_are_counted():
  env = copy.copy(checks.load('hopper-hop'))
  env.mj_model = copy.copy(env.mj_model)
  env.mj_model.geom_contype[:] = env.mj_model.geom_conaffinity[:] = 0
  result = contacts.contacts(env, 250)
  assert result['dropped'] == result['dropped_force'] == 1
  assert result['most'] == 0


def test_resets_into_contact_are_counted(monkeypatch):
  env = checks.load('ball_in_cup-catch')
  assert rollouts.reset_failures(env, 300) == 0
  # In the cup's wall.
  bad = suite.Initial(jp.array([0.0, 0.0, 0.05, 0.3]))
  monkeypatch.setattr(type(env), 'initial', lambda self, rng: bad)
  assert rollouts.reset_failures(env, 300) == 300


def test_faults_are_counted(monkeypatch):
  env = checks.load('point_mass-easy')
  assert rollouts.faults(env, 2000) == (0, 2000)
  reward = type(env).reward
  monkeypatch.setattr(
    type(env), 'reward', lambda self, data: jp.nan * reward(self, data)
  )
  count, steps = rollouts.faults(copy.copy(env), 1000)
  assert count == steps == 1000
