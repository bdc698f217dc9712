"""The critic reaches the known value of each probe within 5 %."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Runner, from_preset
from mjx_crossq.learner import networks
from tests.learner import probes

GAMMA = 0.8
# A learning rate that settles fast, and no entropy bonus in the values.
SETTINGS = {
  'action_repeat': 1,
  'utd': 2,
  'gamma': GAMMA,
  'tau': 0.05,
  'critic_width': 64,
  'actor_width': 32,
  'batch_size': 128,
  'warmup': 200,
  'critic_lr': 1e-3,
  'actor_lr': 1e-3,
  'alpha_lr': 1e-9,
  'init_alpha': 1e-6,
  'replay_capacity': 10_000,
}


def learn(env, iterations, preset='crossq_wn', **changes):
  """States near the end of training, to average its last fluctuations out."""
  config = from_preset(preset, **{**SETTINGS, **changes})
  runner = Runner(config, env)
  # Thousands of updates: unlike other tests, this waits for what it compiled.
  train = runner.lower_train_chunk().compile(
    {'xla_backend_optimization_level': 1}
  )
  state, states = runner.init(), []
  for stop in range(iterations, iterations + 10 * 40, 40):
    state, _ = train(state, jnp.int32(stop), runner.zero_sums())
    states.append(jax.tree.map(jnp.copy, state.agent))
  return runner, states


def q_values(runner, states, obs, action):
  """Mean of the critics in eval mode at rows of observations and actions."""
  action = jnp.asarray(action, jnp.float32).reshape(-1, 1)
  obs = jnp.asarray(obs, jnp.float32).reshape(len(action), -1)
  values = []
  for state in states:
    network = jax.tree.map(lambda x: x[0], state.critic.network)
    critic = runner.trainer.agent.critic
    out, _ = networks.apply(critic, network, obs, action, train=False)
    q = runner.trainer.agent.values.mean(out)
    values.append(q.mean(axis=0))
  return np.mean(values, axis=0)


CASES = {
  'constant': (probes.ConstantReward(), [0], [1]),
  'observed': (probes.ObservedReward(), [-1, 1], [-1, 1]),
  'delayed': (probes.DelayedReward(), [0, 1], [GAMMA, 1]),
  'time_limit': (probes.TimeLimit(), [0], [1 / (1 - GAMMA)]),
  'termination': (
    probes.Termination(),
    [0, 0.25, 0.5, 0.75, 1],
    [sum(GAMMA**i for i in range(n)) for n in (5, 4, 3, 2, 1)],
  ),
}
# 'termination' shows what the first three do; test_rollout.py has the masks of
# time limits.
_SLOW_CASES = ('constant', 'observed', 'delayed', 'time_limit')


@pytest.mark.parametrize(
  ('case', 'target_network'),
  [
    *(
      pytest.param(case, True, marks=[pytest.mark.slow] * (case in _SLOW_CASES))
      for case in CASES
    ),
    pytest.param('termination', False, marks=pytest.mark.slow),
  ],
)
def test_value_is_learned(case, target_network):
  env, obs, expected = CASES[case]
  runner, states = learn(env, 2000, target_network=target_network)
  # The policy's action: values of actions never taken are not defined.
  policy = states[-1].actor.network
  stacked = np.asarray(obs, np.float32).reshape(1, -1, 1)
  action = runner.act(policy, stacked)[0]
  np.testing.assert_allclose(
    q_values(runner, states, obs, action), expected, rtol=0.05
  )


@pytest.mark.slow
def test_the_critic_sees_what_the_actor_does_not():
  runner, states = learn(probes.Privileged(), 2000)
  obs = np.array([[0, 0, -1], [0, 0, 1], [1, -1, -1], [1, -1, 1]], np.float32)
  action = runner.act(states[-1].actor.network, obs[None])[0]
  np.testing.assert_array_equal(action[::2], action[1::2])
  assert (action[0] != action[2]).all()
  np.testing.assert_allclose(
    q_values(runner, states, obs, action), [-1, 1, -1, 1], rtol=0.05
  )


# Every other preset and option learns one value that takes a bootstrap.
VARIANTS = {
  'crossq_512': ('delayed', 'crossq_512', {}),
  'layer_norm': ('delayed', 'crossq_wn', {'normalization': 'layer'}),
  'two_passes': ('time_limit', 'crossq_wn', {'joint_pass': False}),
  'soft_l2': ('delayed', 'crossq_wn', {'weight_norm': False, 'soft_l2': 1e-4}),
  # 4,000 updates: two resets, of which the last leaves 1,000.
  'sac_resets': ('delayed', 'sac_resets', {'reset_every': 1500}),
  'quantile': (
    'delayed',
    'crossq_wn',
    {'critic_value': 'quantile', 'atoms': 8},
  ),
  'bro': ('delayed', 'bro', {'atoms': 16, 'reset_at': (800,)}),
  'four_critics': ('delayed', 'crossq_wn', {'num_critics': 4}),
}


_SLOW = (
  *('quantile', 'layer_norm', 'bro'),
  *('crossq_512', 'sac_resets', 'four_critics', 'soft_l2', 'two_passes'),
)


@pytest.mark.parametrize(
  'variant',
  [
    pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW))
    for name in VARIANTS
  ],
)
def test_variant_learns_a_value(variant):
  case, preset, changes = VARIANTS[variant]
  env, obs, expected = CASES[case]
  runner, states = learn(env, 2000, preset, **changes)
  stacked = np.asarray(obs, np.float32).reshape(1, -1, 1)
  action = runner.act(states[-1].actor.network, stacked)[0]
  np.testing.assert_allclose(
    q_values(runner, states, obs, action), expected, rtol=0.05
  )


@pytest.mark.parametrize('preset', ['xqc', 'flashsac'])
@pytest.mark.slow
def test_value_is_in_units_of_the_spread_of_returns(preset):
  env, obs, expected = CASES['delayed']
  runner, states = learn(env, 2000, preset, lr_decay_steps=2400)
  stacked = np.asarray(obs, np.float32).reshape(1, -1, 1)
  action = runner.act(states[-1].actor.network, stacked)[0]
  # The discounted returns so far are 0 and 1 in turn: their spread is 1/2.
  np.testing.assert_allclose(
    q_values(runner, states, obs, action) / 2, expected, rtol=0.05
  )


@pytest.mark.slow
@pytest.mark.parametrize('preset', ['crossq_wn', 'sac'])
def test_value_depends_on_the_action_and_the_actor_finds_the_best(preset):
  # A longer warm-up: the policy soon visits its favourite action alone.
  runner, states = learn(
    probes.ActionReward(), 2000, preset, policy_delay=2, warmup=1000
  )
  action = np.linspace(-0.5, 0.9, 8)
  expected = 1 - (action - 0.5) ** 2
  values = q_values(runner, states, np.zeros(8), action)
  # Of 8 seeds the worst was .08 off, and its best action .27.
  np.testing.assert_allclose(values, expected, atol=0.1)
  best = runner.act(states[-1].actor.network, np.zeros((1, 1, 1)))
  assert abs(float(best[0, 0, 0]) - 0.5) < 0.3
