"""The ring buffer against a Python list."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Transition
from mjx_crossq.device.replay import Replay

REPLAY = Replay(rows=12, rows_per_add=3, observation_size=2, action_size=1)


def transition(index):
  """Three transitions that all carry a number of their own."""
  values = jnp.float32(3 * index + 1) + jnp.arange(3)
  column = values[:, None]
  return Transition(
    obs=jnp.concatenate([column, -column], axis=1),
    action=column / 100,
    reward=values * 2,
    mask=values * 3,
    next_obs=jnp.concatenate([column + 0.5, column + 0.25], axis=1),
  )


def filled(adds):
  add = jax.jit(REPLAY.add)
  buffer = REPLAY.init()
  for index in range(adds):
    buffer = add(buffer, transition(index), jnp.int32(index))
  return buffer


@pytest.mark.parametrize('adds', [1, 3, 4, 5, 11])
def test_samples_are_the_newest_transitions_and_whole(adds):
  buffer = filled(adds)
  batch = jax.jit(REPLAY.sample, static_argnums=2)(
    buffer, jax.random.key(0), 2000, jnp.int32(adds)
  )
  numbers = np.asarray(batch.obs[:, 0])
  newest = range(max(0, adds - 4), adds)
  expected = {3 * index + 1 + k for index in newest for k in range(3)}
  assert set(numbers.tolist()) == expected  # all written, none unwritten
  np.testing.assert_array_equal(batch.obs[:, 1], -numbers)
  np.testing.assert_allclose(batch.action[:, 0], numbers / 100, rtol=1e-6)
  np.testing.assert_array_equal(batch.reward, numbers * 2)
  np.testing.assert_array_equal(batch.mask, numbers * 3)
  np.testing.assert_array_equal(batch.next_obs[:, 0], numbers + 0.5)
  np.testing.assert_array_equal(batch.next_obs[:, 1], numbers + 0.25)


def test_sampling_is_uniform():
  draws = 12_000
  batch = REPLAY.sample(filled(7), jax.random.key(1), draws, jnp.int32(7))
  _, counts = np.unique(np.asarray(batch.obs[:, 0]), return_counts=True)
  chi2 = np.sum((counts - draws / 12) ** 2 / (draws / 12))
  assert chi2 < 31.3  # 99.9 % quantile with 11 degrees of freedom


def test_rows_must_hold_whole_writes():
  with pytest.raises(ValueError, match='multiple of'):
    Replay(rows=10, rows_per_add=3, observation_size=2, action_size=1)
