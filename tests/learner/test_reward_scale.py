"""The spread of discounted returns, beside NumPy's over all of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from mjx_crossq import Runner, from_preset
from mjx_crossq.device.rollout import Rollout
from mjx_crossq.device.trainer import Trainer
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.learner import reward_scale
from tests.learner.probes import Counter

GAMMA = 0.9


@pytest.mark.parametrize('num_envs', [1, 3])
def test_moments_are_those_of_all_returns(num_envs):
  rng = np.random.default_rng(0)
  rewards = rng.normal(5, 2, (200, num_envs)).astype(np.float32)
  over = rng.uniform(size=rewards.shape) < 0.1
  stats = reward_scale.init(num_envs)
  assert reward_scale.scale(stats) == 1
  seen, total = [], np.zeros(num_envs)
  for reward, ends in zip(rewards, over, strict=True):
    stats = reward_scale.update(stats, reward, ends, GAMMA)
    total = GAMMA * total + reward
    seen.append(total)
    total = np.where(ends, 0, total)
  np.testing.assert_allclose(stats.discounted, total, rtol=1e-5)
  np.testing.assert_allclose(stats.mean, np.mean(seen), rtol=1e-5)
  np.testing.assert_allclose(reward_scale.scale(stats), np.std(seen), rtol=1e-4)


def test_the_largest_return_ends_within_the_limit():
  """Of rare rewards it is far from the others in standard deviations."""
  rewards = np.zeros((300, 2), np.float32)
  rewards[[50, 51, 250], 1] = -3, -3, 1
  stats = reward_scale.init(2, keep_largest=True)
  step = jax.jit(reward_scale.update)
  total, largest, seen = np.zeros(2), 0.0, []
  for reward in rewards:
    stats = step(stats, reward, jnp.bool_(False), GAMMA)
    total = GAMMA * total + reward
    largest = max(largest, np.abs(total).max())
    seen.append(total)
  assert largest > 10 * np.std(seen)
  scale = reward_scale.scale(stats, limit=5.0)
  np.testing.assert_allclose(scale, largest / 5, rtol=1e-5)
  # A wide limit leaves the standard deviation.
  scale = reward_scale.scale(stats, limit=100.0)
  np.testing.assert_allclose(scale, np.std(seen), rtol=1e-4)


LONG = 5_000_000
_RNG = np.random.default_rng(1)


@pytest.mark.parametrize(
  ('rewards', 'gamma'),
  [
    pytest.param(_RNG.uniform(0, 1, LONG), 0.99, id='dense'),
    pytest.param(_RNG.uniform(0, 1, LONG) < 1e-4, 0.99, id='sparse'),
    pytest.param(_RNG.uniform(999, 1001, LONG), 0.99, id='far from 0'),
  ],
)
def test_long_runs_lose_nothing(rewards, gamma):
  """The moments of float64; of 5,000,000 returns in float32 16 % were lost."""
  rewards = rewards.astype(np.float32)

  @jax.jit
  def moments(rewards):
    def step(stats, reward):
      return reward_scale.update(stats, reward[None], False, gamma), None

    return jax.lax.scan(step, reward_scale.init(1), rewards)[0]

  stats = moments(rewards)
  gamma = float(np.float32(gamma))
  seen = signal.lfilter([1.0], [1.0, -gamma], rewards.astype(np.float64))
  np.testing.assert_allclose(stats.mean, seen.mean(), rtol=1e-5)
  np.testing.assert_allclose(reward_scale.scale(stats), seen.std(), rtol=1e-4)


def test_counts_go_on_where_float32_cannot_count():
  stats = reward_scale.init(1).replace(count=jnp.int32(2**24))
  for _ in range(3):
    stats = reward_scale.update(stats, jnp.ones(1), jnp.bool_(True), GAMMA)
  assert stats.count == 2**24 + 3


def test_equal_returns_leave_rewards_as_they_are():
  stats = reward_scale.init(1)
  for _ in range(3):
    stats = reward_scale.update(stats, jnp.ones(1), jnp.bool_(True), GAMMA)
  assert reward_scale.scale(stats) == 1


SMALL = {
  'action_repeat': 1,
  'utd': 1,
  'warmup': 5,
  'gamma': GAMMA,
  'critic_width': 8,
  'actor_width': 8,
  'batch_size': 8,
  'replay_capacity': 100,
  'num_seeds': 2,
  'eval_episodes': 1,
}


def test_a_run_keeps_them_for_each_seed_and_the_replay_is_raw():
  runner = Runner(from_preset('xqc', **SMALL), Counter(10))
  state, _ = runner.train_chunk(runner.init(), 23)
  rewards = np.arange(23) % 10 + 1.0
  np.testing.assert_allclose(state.replay[:, :23, -2], [rewards, rewards])
  seen, total = [], 0.0
  for step, reward in enumerate(rewards):
    total = GAMMA * (0 if step % 10 == 0 else total) + reward
    seen.append(total)
  stats = state.rollout.reward_stats
  assert stats.count.shape == (2,) and runner.traces['train_chunk'] == 1
  np.testing.assert_allclose(np.sqrt(stats.var), np.std(seen), rtol=1e-5)
  np.testing.assert_array_equal(stats.count, 23)


@pytest.mark.parametrize(('largest', 'scaled'), [(None, 3.0), (30.0, 1.0)])
def test_batches_are_divided_by_the_spread(monkeypatch, largest, scaled):
  trainer = Trainer(from_preset('xqc', **SMALL), Counter(10))
  seen = []

  def update(agent, batch, *_):
    seen.append(batch.reward)
    raise StopIteration

  monkeypatch.setattr(type(trainer.agent), 'update', lambda _, *a: update(*a))
  state = trainer.init(jax.random.key(0))
  stats = state.rollout.reward_stats.replace(
    count=jnp.int32(9), var=jnp.float32(4), largest=largest
  )
  replay = state.replay.at[:, -2].set(6.0)
  with jax.disable_jit(), pytest.raises(StopIteration):
    trainer._learn(
      trainer.agent,
      state.agent,
      stats,
      replay,
      jax.random.key(1),
      jnp.int32(6),
    )
  np.testing.assert_allclose(seen[0], scaled, rtol=1e-6)


def test_other_presets_keep_none():
  assert Rollout(Counter(10), 1, 1).init().reward_stats is None


@pytest.mark.parametrize(
  'preset', [pytest.param('xqc', marks=pytest.mark.slow), 'flashsac']
)
def test_a_checkpoint_holds_them_and_layers_without_a_bias(tmp_path, preset):
  """And of `flashsac` the noise that is kept, and the scales of its norms."""
  config = from_preset(preset, **SMALL, critic_layers=1, actor_layers=1)
  runner = Runner(config, Counter(10))
  state, _ = runner.train_chunk(runner.init(), 12)
  with Checkpointer(tmp_path / 'checkpoints') as checkpointer:
    checkpointer.save(12, state)
  with Checkpointer(tmp_path / 'checkpoints') as checkpointer:
    again = checkpointer.restore(12, runner.abstract_state())
  assert jax.tree.structure(again) == jax.tree.structure(state)
  whole, _ = runner.train_chunk(state, 20)
  resumed, _ = runner.train_chunk(again, 20)
  for part in (lambda s: s.agent, lambda s: s.rollout):
    pairs = zip(
      jax.tree.leaves(part(whole)), jax.tree.leaves(part(resumed)), strict=True
    )
    for a, b in pairs:
      np.testing.assert_array_equal(a, b)
