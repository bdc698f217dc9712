"""Reacher."""

import dataclasses

import jax
import numpy as np

from mjx_crossq.envs.parity import measures as parity

from . import checks


class TestReacher(checks.StockParity):
  domain = 'reacher'


def test_target_stays_for_the_episode_and_state_from_sets_it():
  env = checks.load('reacher-easy')
  states, records = (
    checks.states('reacher-easy'),
    checks.records('reacher-easy'),
  )
  after = jax.jit(jax.vmap(env.step))(states, np.float32(records.action))
  np.testing.assert_array_equal(states.info['target'], after.info['target'])
  assert len(np.unique(states.info['target'], axis=0)) > 5
  other = {'target': np.full((len(records), 2), 0.1)}
  moved = parity.start(env, dataclasses.replace(records, params=other))
  shift = moved.obs[:, 2:4] - states.obs[:, 2:4]
  expected = other['target'] - states.info['target']
  np.testing.assert_allclose(shift, expected, atol=1e-6)


def test_types_under_nested_vmap():
  env = checks.load('reacher-hard')
  keys = jax.random.split(jax.random.key(0), (2, 3))
  start = jax.eval_shape(jax.vmap(jax.vmap(env.reset)), keys)
  actions = jax.ShapeDtypeStruct((2, 3, env.action_size), np.float32)
  after = jax.eval_shape(jax.vmap(jax.vmap(env.step)), start, actions)
  assert jax.tree.structure(after) == jax.tree.structure(start)
  before = jax.tree.leaves(checks.types(start))
  assert jax.tree.leaves(checks.types(after)) == before
  assert after.obs.shape == (2, 3, env.observation_size)


def test_targets_lie_in_stocks_ring():
  # Radius and angle tell more than the coordinates, which are tested too.
  env = checks.load('reacher-hard')
  draws = 2000
  keys = jax.random.split(jax.random.key(1), draws)
  params = jax.jit(jax.vmap(env.initial))(keys).params
  stock, targets = env.stock_env(1), []
  for _ in range(draws):
    stock.reset()
    targets.append(env.read_params(stock.physics)['target'])
  for view in (_radius, _angle):
    ours, theirs = view(np.asarray(params['target'])), view(np.array(targets))
    assert parity.two_sample_pvalue(ours, theirs) > 1e-3


def _radius(xy):
  return np.hypot(xy[:, 0], xy[:, 1])


def _angle(xy):
  return np.arctan2(xy[:, 1], xy[:, 0])
