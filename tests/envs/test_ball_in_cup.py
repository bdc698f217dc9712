"""Ball in cup."""

import jax
import numpy as np

from . import checks


class TestBallInCup(checks.StockParity):
  domain = 'ball_in_cup'
  step_bound = 4e-6
  v1 = (3e-7, 2e-6)
  v_control = (6e-7, 6e-6)
  v25 = (1e-6, 1e-5)


def test_ball_never_begins_in_touch():
  env = checks.load('ball_in_cup-catch')
  qpos, _, _ = jax.vmap(env.initial)(jax.random.split(jax.random.key(1), 300))
  stock = env.stock_env(0).physics
  for row in np.asarray(qpos):
    with stock.reset_context():
      stock.data.qpos[:] = row
    # Within float32's resolution of touching counts as clear.
    assert all(c.dist > -1e-6 for c in stock.data.contact)
