"""How far apart rounding may bring two programs that compute the same.

Training amplifies rounding, and compilers for different processors round
differently. So a bound of the difference after many updates is measured: by
how much a change of one unit in the last place at the start has grown.
"""

import jax
import jax.numpy as jnp
import numpy as np

# A program rounds in every operation, the change below is made once.
_OPERATIONS = 30


def distance(a, b):
  """The largest relative difference of two trees' leaves, NaN alike."""
  worst = 0.0
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    assert x.shape == y.shape
    np.testing.assert_array_equal(np.isnan(x), np.isnan(y))
    x, y = np.nan_to_num(x), np.nan_to_num(y)
    worst = max(worst, np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-3))
  return float(worst)


def nudged(state):
  """A `TrainState` whose networks differ in the last place of each number."""

  def nudge(x):
    floats = jnp.issubdtype(x.dtype, jnp.floating)
    return jnp.nextafter(x, 2 * x) if floats else x

  return state.replace(agent=jax.tree.map(nudge, state.agent))


def growth(runner, stop):
  """The difference that `nudged` makes after the iterations to `stop`."""
  plain, _ = runner.train_chunk(runner.init(), stop)
  other, _ = runner.train_chunk(nudged(runner.init()), stop)
  parts = lambda s: (s.agent, s.rollout.last_return, s.replay)  # noqa: E731
  return distance(parts(other), parts(plain))


def bound(runner, stop, least=1e-4):
  """What a program that computes the same as `runner` may differ by."""
  return max(least, _OPERATIONS * growth(runner, stop))
