"""Selection, exploration and what is copied, beside NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mjx_crossq import TrainState
from mjx_crossq.device.rollout import RolloutState
from mjx_crossq.host import pbt
from mjx_crossq.learner import reward_scale

ROWS = 12


@pytest.fixture(scope='module')
def select():
  return jax.jit(jax.vmap(pbt.select, in_axes=(None, 0)))


def keys(count):
  return jax.random.split(jax.random.key(0), count)


def test_the_worst_fifth_goes_on_from_the_best(select):
  scores = np.random.default_rng(0).normal(size=ROWS).astype(np.float32)
  order = np.argsort(scores)
  worst, best = order[:2], order[-2:]
  sources, replaced = select(scores, keys(400))
  expected = np.isin(np.arange(ROWS), worst)
  np.testing.assert_array_equal(replaced, np.tile(expected, (400, 1)))
  itself = np.arange(ROWS)[~expected]
  np.testing.assert_array_equal(
    sources[:, ~expected], np.tile(itself, (400, 1))
  )
  for row in worst:
    drawn = np.asarray(sources[:, row])
    counts = [np.sum(drawn == source) for source in best]
    assert sum(counts) == 400
    assert stats.binomtest(counts[0], 400).pvalue > 1e-3


def test_nothing_is_replaced_by_what_is_no_better(select):
  for scores in (np.zeros(ROWS), np.full(ROWS, -np.inf)):
    sources, replaced = select(scores.astype(np.float32), keys(8))
    assert not np.any(replaced)
    np.testing.assert_array_equal(sources, np.tile(np.arange(ROWS), (8, 1)))


def test_a_row_without_a_score_postpones_the_step(select):
  scores = np.arange(ROWS, dtype=np.float32)
  scores[5] = np.nan
  assert not np.any(select(scores, keys(8))[1])


@pytest.mark.parametrize(
  ('name', 'value', 'expected'),
  [
    ('actor_lr', 1e-3, (8e-4, 1.25e-3)),
    ('target_entropy', -0.5, (-0.4, -0.625)),
    ('gamma', 0.9, (0.92, 0.875)),
    ('gamma', 0.1, (0.28, 0.0)),  # 1 - 0.9 * 1.25 is below 0
    ('tau', 0.9, (0.72, 1.0)),
    ('weight_decay', 0.0, (0.0, 0.0)),
  ],
)
def test_a_value_is_multiplied_within_its_bounds(name, value, expected):
  values = jnp.full(400, value, jnp.float32)
  new = np.asarray(pbt.perturb(name, values, jax.random.key(1)))
  low = np.isclose(new, expected[0], rtol=1e-5)
  assert np.all(low | np.isclose(new, expected[1], rtol=1e-5))
  if expected[0] != expected[1]:
    assert stats.binomtest(int(low.sum()), 400).pvalue > 1e-3


def test_what_is_copied_and_what_stays():
  rng = np.random.default_rng(1)
  score = np.arange(10.0, dtype=np.float32)[::-1].copy()
  frozen = np.zeros(10, bool)
  frozen[1] = True  # it would be the second best
  last = np.stack([score - 1, score + 1], axis=1)
  moments = {
    name: jnp.asarray(rng.normal(size=10), jnp.float32)
    for name in reward_scale.MOMENTS
  }
  rows = jnp.arange(10.0)
  stats_ = reward_scale.ReturnStats(discounted=rows[:, None], **moments)
  state = TrainState(
    agent={'params': jnp.outer(rows, jnp.ones(3))},  # pyright: ignore
    rollout=RolloutState(
      env=rows,
      episode_return=rows,
      episode_length=rows,
      last_return=jnp.asarray(last),
      reward_stats=stats_,
    ),
    replay=None,  # pyright: ignore
    key=rows,
    iteration=jnp.int32(9),
    frozen=jnp.asarray(frozen),
    hyper={'tau': jnp.full(10, 0.1), 'actor_lr': 1e-3 * (1 + rows)},
  )
  new, found = jax.jit(pbt.step, static_argnums=2)(state, jax.random.key(2), 10)
  source = np.asarray(found['source'])
  replaced = np.asarray(found['replaced'])
  np.testing.assert_array_equal(np.flatnonzero(replaced), [1, 9])
  assert set(source[[1, 9]]) <= {0, 2}
  np.testing.assert_array_equal(new.agent['params'][:, 0], source)
  assert not np.any(new.frozen)
  for name, values in moments.items():
    got = getattr(new.rollout.reward_stats, name)
    np.testing.assert_array_equal(got, np.asarray(values)[source])
  for name, old in state.hyper.items():
    factor = np.asarray(new.hyper[name]) / np.asarray(old)[source]
    np.testing.assert_allclose(factor[~replaced], 1)
    assert np.all(
      np.isclose(factor, 0.8) | np.isclose(factor, 1.25), where=replaced
    )
  for part in ('env', 'episode_return', 'episode_length', 'last_return'):
    np.testing.assert_array_equal(
      getattr(new.rollout, part), getattr(state.rollout, part)
    )
  np.testing.assert_array_equal(new.rollout.reward_stats.discounted[:, 0], rows)
  np.testing.assert_array_equal(new.key, state.key)


def test_copies_behind_the_rows_stay_copies():
  def state(rows):
    of = np.minimum(np.arange(rows), 4)  # devices may hold the last row thrice
    take = lambda x: jnp.asarray(np.asarray(x, np.float32)[of])  # noqa: E731
    five = np.arange(5)
    zero = jnp.zeros(rows)
    rollout = RolloutState(zero, zero, zero, take(five[::-1])[:, None])
    agent = {'params': take(five)}
    hyper = {'tau': take((1 + five) / 100)}
    frozen = jnp.zeros(rows, bool)
    return TrainState(agent, rollout, None, zero, 0, frozen, hyper)  # pyright: ignore

  step = jax.jit(pbt.step, static_argnums=2)
  for seed in range(4):
    alone, found = step(state(5), jax.random.key(seed), 5)
    padded, _ = step(state(7), jax.random.key(seed), 5)
    assert found['replaced'].tolist() == [False] * 4 + [True]
    for a, b in zip(
      jax.tree.leaves((alone.agent, alone.hyper)),
      jax.tree.leaves((padded.agent, padded.hyper)),
      strict=True,
    ):
      np.testing.assert_array_equal(b[:5], a)
      np.testing.assert_array_equal(b[5:], np.repeat(a[4:], 2))
