"""True final observations, fresh resets, action repeat, terminations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import ConfigError
from mjx_crossq.device.rollout import Rollout
from tests.learner.probes import Counter


def play(rollout, iterations):
  """Transitions as arrays `(iterations, num_envs, ...)`, and the end state."""
  begin, step = jax.jit(rollout.begin), jax.jit(rollout.step)
  state = rollout.init()
  seen = []
  for i in range(iterations):
    action = jnp.full((rollout.num_envs, 1), 0.1 * i)
    state = begin(state, jax.random.key(i))
    state, transition, finite, _ = step(state, action, jnp.int32(i))
    assert np.all(finite)
    seen.append(transition)
  return jax.tree.map(lambda *x: np.stack(x), *seen), state


@pytest.mark.parametrize('num_envs', [1, 4])
def test_time_limit_keeps_the_final_observation_and_bootstraps(num_envs):
  seen, state = play(Rollout(Counter(10), num_envs, 1), 25)
  counts = np.arange(25) % 10
  for env in range(num_envs):
    np.testing.assert_array_equal(seen.obs[:, env, 1], counts)
    np.testing.assert_array_equal(seen.next_obs[:, env, 1], counts + 1)
  np.testing.assert_array_equal(seen.obs[..., 0], seen.next_obs[..., 0])
  np.testing.assert_array_equal(seen.mask, 1)
  starts = seen.obs[[0, 10, 20], :, 0]
  assert len(np.unique(starts)) == 3 * num_envs  # fresh, and each its own
  np.testing.assert_array_equal(state.last_return, 55)
  np.testing.assert_array_equal(state.episode_return, 1 + 2 + 3 + 4 + 5)
  np.testing.assert_array_equal(state.episode_length, 5)


def test_action_repeat_sums_rewards_and_counts_env_steps():
  seen, state = play(Rollout(Counter(10), 2, 5), 3)
  np.testing.assert_array_equal(seen.reward[:, 0], [15, 40, 15])
  np.testing.assert_array_equal(seen.obs[:, 0, 1], [0, 5, 0])
  np.testing.assert_array_equal(seen.next_obs[:, 0, 1], [5, 10, 5])
  np.testing.assert_array_equal(state.last_return, 55)


def test_termination_masks_and_stops_the_repeat():
  rollout = Rollout(Counter(1000, ends_at=3), 2, 2)
  seen, state = play(rollout, 5)
  np.testing.assert_array_equal(seen.mask[:, 0], [1, 0, 1, 0, 1])
  # The second decision ends after its first env step: reward 3, not 3 + 4.
  np.testing.assert_array_equal(seen.reward[:, 0], [3, 3, 3, 3, 3])
  np.testing.assert_array_equal(seen.next_obs[:, 0, 1], [2, 3, 2, 3, 2])
  np.testing.assert_array_equal(state.last_return, 6)
  assert len(np.unique(seen.obs[[0, 2, 4], :, 0])) == 6


def test_time_limit_of_a_terminating_environment_bootstraps():
  seen, _ = play(Rollout(Counter(4, ends_at=100), 1, 2), 4)
  np.testing.assert_array_equal(seen.obs[:, 0, 1], [0, 2, 0, 2])
  np.testing.assert_array_equal(seen.mask, 1)


def test_returns_of_a_policy_stop_at_the_termination():
  def policy(obs):
    return jnp.zeros((obs.shape[0], 1))

  key = jax.random.key(0)
  rollout = Rollout(Counter(10), 3, 2)
  np.testing.assert_array_equal(
    jax.jit(rollout.returns, static_argnums=0)(policy, key), 55
  )
  rollout = Rollout(Counter(10, ends_at=3), 3, 2)
  np.testing.assert_array_equal(rollout.returns(policy, key), 6)


def test_action_repeat_must_divide_the_episode():
  with pytest.raises(ConfigError, match='action_repeat=3 must divide'):
    Rollout(Counter(10), 1, 3)
