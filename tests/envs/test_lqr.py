"""LQR."""

import numpy as np

from . import checks


class TestLQR(checks.StockParity):
  domain = 'lqr'
  models = ('lqr_2_1', 'lqr_6_2')
  slow = ('lqr_6_2',)


def test_ends_where_stock_does():
  env = checks.load('lqr-lqr_2_1')
  stock = env.stock_env(0)
  for size in (0.9e-6, 1.1e-6):
    qpos = np.array([size, 0.0])
    with stock.physics.reset_context():
      stock.physics.data.qpos[:] = qpos
    ends = stock.task.get_termination(stock.physics) is not None
    state = env.state_from(qpos)
    assert bool(state.done) == ends == (size < 1e-6)
  assert env.terminates


def test_stock_envs_share_the_springs():
  env = checks.load('lqr-lqr_6_2')
  a, b = (env.stock_env(seed) for seed in (0, 1))
  stiffness = [x.physics.model.ptr.jnt_stiffness for x in (a, b)]
  np.testing.assert_array_equal(*stiffness)
  np.testing.assert_allclose(env.mj_model.jnt_stiffness, stiffness[0])
  first = [x.reset().observation['position'] for x in (a, b)]
  assert not np.allclose(*first)
