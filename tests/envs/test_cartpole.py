"""Cart-pole."""

import jax
import numpy as np

from . import checks


class TestCartpole(checks.StockParity):
  domain = 'cartpole'
  models = ('balance', 'two_poles', 'three_poles')
  slow = ('two_poles', 'three_poles')


def test_actions_are_clipped_and_foreign_info_survives():
  task = 'cartpole-balance'
  step, states = jax.vmap(checks.load(task).step), checks.states(task)
  size = len(states.obs)
  info = {'wrapper': np.ones((size, 2))}
  states = states.replace(info=info, metrics={'m': np.ones(size)})
  beyond = step(states, np.full((size, 1), 7, np.float32))
  edge = step(states, np.full((size, 1), 1, np.float32))
  np.testing.assert_array_equal(beyond.obs, edge.obs)
  assert not np.allclose(beyond.obs, states.obs)
  np.testing.assert_array_equal(beyond.info['wrapper'], info['wrapper'])
  assert beyond.metrics.keys() == {'m'}
