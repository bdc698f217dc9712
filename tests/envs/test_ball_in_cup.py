"""Ball in cup."""

import jax
import numpy as np

from . import checks


class TestBallInCup(checks.StockParity):
  domain = 'ball_in_cup'


def test_ball_never_begins_in_touch():
  env = checks.load('ball_in_cup-catch')
  keys = jax.random.split(jax.random.key(1), 300)
  qpos = jax.jit(jax.vmap(env.initial))(keys).qpos
  stock = env.stock_env(0).physics
  for row in np.asarray(qpos):
    with stock.reset_context():
      stock.data.qpos[:] = row
    # Within float32's resolution of touching counts as clear.
    assert all(c.dist > -1e-6 for c in stock.data.contact)
