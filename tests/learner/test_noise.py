"""How long exploration noise is kept, and that actions are made of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from mjx_crossq import from_preset
from mjx_crossq.device.trainer import Trainer
from mjx_crossq.learner import noise
from tests.learner.probes import Counter

LONGEST, STEPS = 16, 20_000


@pytest.fixture(scope='module')
def drawn():
  """Noise of each decision, `(seeds, decisions, num_envs, actions)`."""

  def one_seed(key):
    def step(held, index):
      held = noise.advance(held, jax.random.fold_in(key, index), LONGEST)
      return held, held.value

    return jax.lax.scan(step, noise.init(3, 2), jnp.arange(STEPS))[1]

  keys = jax.random.split(jax.random.key(0), 2)
  return np.asarray(jax.jit(jax.vmap(one_seed))(keys))


def test_runs_have_the_lengths_of_a_truncated_zeta_distribution(drawn):
  change = (np.diff(drawn, axis=1) != 0).reshape(2, STEPS - 1, -1)
  # All environments and dimensions of a seed change together.
  np.testing.assert_array_equal(change.all(-1), change.any(-1))
  first, second = change.any(-1)
  assert not np.array_equal(first, second)
  lengths = np.diff(np.flatnonzero(first))
  k = np.arange(1, LONGEST + 1)
  expected = k**-2.0 / np.sum(k**-2.0)
  assert expected[0] == pytest.approx(0.631, abs=1e-3)
  counts = np.bincount(lengths, minlength=LONGEST + 1)[1:]
  assert counts.sum() == len(lengths)  # none is longer
  assert stats.chisquare(counts, len(lengths) * expected).pvalue > 1e-3


def test_draws_are_standard_normal_and_differ_between_environments(drawn):
  starts = np.flatnonzero((np.diff(drawn[0], axis=0) != 0).all((1, 2))) + 1
  values = drawn[0][starts]
  assert stats.kstest(values.ravel(), 'norm').pvalue > 1e-3
  correlation = np.corrcoef(values.reshape(len(values), -1).T) - np.eye(6)
  assert np.abs(correlation).max() < 5 / np.sqrt(len(values))


SMALL = {
  'num_envs': 4,
  'warmup': 8,
  'critic_width': 4,
  'actor_width': 4,
  'batch_size': 4,
}


def test_actions_are_made_of_it_after_the_warmup():
  trainer = Trainer(from_preset('flashsac', **SMALL, utd=0.25), Counter(10))
  decide = jax.jit(trainer.decide)
  state = trainer.init(jax.random.key(0))
  assert state.rollout.noise.value.shape == (4, 1)
  kept = noise.HeldNoise(jnp.full((4, 1), 0.5), jnp.int32(2))

  def at(iteration, held):
    rollout = state.rollout.replace(noise=held)
    rollout, action = decide(
      state.replace(iteration=jnp.int32(iteration), rollout=rollout)
    )
    (mean, log_std) = trainer.agent.actor.apply(
      {**vars(state.agent.actor.network)}, rollout.env.obs, train=False
    )
    expected = np.tanh(mean + np.exp(log_std) * rollout.noise.value)
    return rollout.noise, action, expected

  held, action, expected = at(1, kept)  # uniform
  np.testing.assert_array_equal(held.value, kept.value)
  assert held.left == 2 and np.abs(action - expected).max() > 0.01
  held, action, expected = at(2, kept)
  np.testing.assert_array_equal(held.value, kept.value)
  assert held.left == 1
  np.testing.assert_allclose(action, expected, rtol=1e-5)
  held, action, expected = at(2, kept.replace(left=jnp.int32(0)))
  assert len(np.unique(held.value)) == 4
  np.testing.assert_allclose(action, expected, rtol=1e-5)


def test_other_presets_keep_none():
  trainer = Trainer(from_preset('xqc', **SMALL), Counter(10))
  state = jax.eval_shape(trainer.init, jax.random.key(0))
  assert state.rollout.noise is None
  assert state.rollout.reward_stats.largest is None
