"""Every diagnostic on a case whose answer is known."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Agent, Runner, Trainer, from_preset, train
from mjx_crossq.device import diagnostics as diagnostics_lib
from mjx_crossq.device.diagnostics import Diagnostics, with_ranks
from mjx_crossq.learner import plasticity
from mjx_crossq.learner.weight_norm import Affine, UnitAffine
from tests.learner import probes, reference
from tests.learner.test_trainer import SHORT, SMALL
from tests.learner.test_update import (
  ACTION,
  BATCH,
  OBS,
  make_batch,
  one,
  reference_inputs,
  to_reference,
)
from tests.reliability.runs import assert_same_bits

GAMMA = 0.99
WIDTH = SMALL['critic_width']


def of_probe(env, preset='crossq_wn', **changes):
  """Diagnostics in an environment, and the agent before it has learned."""
  settings = {**SMALL, 'action_repeat': 1, 'gamma': GAMMA, **changes}
  trainer = Trainer(from_preset(preset, **settings), env)
  return Diagnostics(trainer), jax.jit(trainer.agent.init)(jax.random.key(0))


def with_layers(network, change):
  """The network with `change(name, layer)` in place of each Dense layer."""
  (module,) = network.params
  layers = {
    name: {'weights': change(name, node['weights'])}
    if 'weights' in node
    else node
    for name, node in network.params[module].items()
  }
  return network.replace(params={module: layers})


def constant_critic(agent, value, alpha=0.0):
  """The agent whose critics say `value` everywhere, and a temperature."""

  def change(name, layer):
    if name != 'q':
      return layer
    return layer.replace(
      kernel=layer.kernel * 0, bias=jnp.zeros_like(layer.bias) + value
    )

  critic = agent.critic.replace(
    network=with_layers(agent.critic.network, change)
  )
  actor = agent.actor.replace(log_alpha=jnp.log(jnp.float32(alpha)))
  return agent.replace(critic=critic, actor=actor)


# ------------------------------------------------------------------- Q-bias


@pytest.mark.parametrize(
  ('action_repeat', 'rewards'), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1])]
)
def test_bias_of_a_constant_critic_on_a_chain_that_ends(action_repeat, rewards):
  """Five rewards of 1 and a true end: only the pairs before it count."""
  diagnostics, agent = of_probe(
    probes.Termination(), action_repeat=action_repeat
  )
  found = jax.jit(diagnostics.q_bias)(
    constant_critic(agent, 7.0), jax.random.key(1)
  )
  returns = np.array(
    [
      sum(r * GAMMA**k for k, r in enumerate(rewards[start:]))
      for start in range(len(rewards))
    ]
  )
  bias = (7 - returns) / 10  # all returns are below 10
  np.testing.assert_allclose(found['q_bias_mean'], bias.mean(), rtol=1e-5)
  np.testing.assert_allclose(found['q_bias_std'], bias.std(), rtol=1e-4)


def test_a_critic_that_looks_past_the_time_limit_is_right():
  """Reward 1 for ever, an episode of five: Q = 100 has a bias below 1 %."""
  diagnostics, agent = of_probe(probes.TimeLimit())
  assert diagnostics.pairs == 5 and diagnostics.rollout.num_envs == 200
  bias = jax.jit(diagnostics.q_bias)
  exact = bias(constant_critic(agent, 100.0), jax.random.key(1))
  assert 0 < exact['q_bias_mean'] < 0.0102
  double = bias(constant_critic(agent, 200.0), jax.random.key(1))
  np.testing.assert_allclose(double['q_bias_mean'], 1.0, atol=0.03)


def test_bias_of_a_critic_of_scaled_rewards_is_in_rewards_as_they_are():
  """Rewards of 1 divided by 25: the right distribution is at 100 / 25 = 4."""
  diagnostics, agent = of_probe(probes.TimeLimit(), 'xqc')
  atom = int(np.argmin(np.abs(np.linspace(-5, 5, 101) - 4)))
  sure = constant_critic(agent, 50.0 * (jnp.arange(101) == atom))
  key = jax.random.key(1)
  found = jax.jit(diagnostics.q_bias)(sure, key, 25.0)
  assert 0 < found['q_bias_mean'] < 0.0102
  # In units of the scaled rewards all returns would be below the least, 10.
  wrong = jax.jit(diagnostics.q_bias)(sure, key, 50.0)
  np.testing.assert_allclose(wrong['q_bias_mean'], 1.0, atol=0.03)


def test_the_returns_have_the_entropies_that_follow():
  """Every decision has log density -2: at alpha .5 each FOLLOWING one pays 1.

  Two decisions, rewards 0 and 1: R = 0 + gamma * (1 + 1), and 1.
  """
  diagnostics, agent = of_probe(probes.DelayedReward())

  class Stub:
    hyper = diagnostics._agent.hyper

    def sample(self, actor, obs, key):
      return jnp.zeros((len(obs), 1)), jnp.full(len(obs), -2.0)

    def q_values(self, critic, obs, action):
      # Two critics, of which the mean counts: 3 and 5.
      return jnp.stack([jnp.full(len(obs), 3.0), jnp.full(len(obs), 5.0)])

  diagnostics._agent = Stub()
  agent = constant_critic(agent, 0.0, alpha=0.5)
  found = jax.jit(diagnostics.q_bias)(agent, jax.random.key(0))
  bias = (4 - np.array([2 * GAMMA, 1.0])) / 10
  np.testing.assert_allclose(found['q_bias_mean'], bias.mean(), rtol=1e-5)
  np.testing.assert_allclose(found['q_bias_std'], bias.std(), rtol=1e-4)


def test_soft_returns_are_the_double_sum():
  rng = np.random.default_rng(0)
  n, alpha = 12, 0.3
  reward, log_prob = rng.normal(size=(2, n, 4))
  mask = np.ones((n, 4))
  mask[5, 1] = mask[0, 2] = 0.0
  expected = np.zeros((n, 4))
  for env in range(4):
    for start in range(n):
      discount = 1.0
      for t in range(start, n):
        entropy = -alpha * log_prob[t, env] if t > start else 0.0
        expected[start, env] += discount * (reward[t, env] + entropy)
        discount *= GAMMA * mask[t, env]
  found = diagnostics_lib.soft_returns(
    *(jnp.float32(x) for x in (reward, log_prob, mask)), GAMMA, alpha
  )
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_bias_is_relative_to_the_return_but_for_small_ones():
  q = jnp.array([30.0, -60.0, 4.0, 99.0])
  returns = jnp.array([20.0, -40.0, 2.0, 0.0])
  weight = jnp.array([1.0, 1.0, 1.0, 0.0])
  bias = np.array([0.5, -0.5, 0.2])
  mean, std = diagnostics_lib.normalized_bias(q, returns, weight)
  np.testing.assert_allclose(mean, bias.mean(), rtol=1e-5)
  np.testing.assert_allclose(std, bias.std(), rtol=1e-5)


@pytest.mark.parametrize(
  ('action_repeat', 'pairs', 'num_envs', 'decisions'),
  [(1, 350, 3, 1000), (2, 350, 3, 809), (4, 250, 4, 709)],
)
def test_a_thousand_pairs_with_less_than_a_hundredth_of_tail(
  action_repeat, pairs, num_envs, decisions
):
  diagnostics, _ = of_probe(probes.Counter(1000), action_repeat=action_repeat)
  assert diagnostics.pairs == pairs
  assert diagnostics.rollout.num_envs == num_envs
  assert diagnostics.decisions == decisions
  assert GAMMA ** (decisions - pairs) < 0.01
  assert diagnostics_lib.tail_length(1.0) == 0


# ------------------------------------------------------ weights, gradients


def test_weight_norms_of_a_layer_scaled_by_hand():
  config = from_preset('crossq_wn', **SMALL)
  agent = Agent(config, OBS, ACTION)
  state = jax.jit(agent.init)(jax.random.key(0))
  # Of the two critics only the second is changed: its Dense_1 is tripled.
  scale = jnp.array([1.0, 3.0])[:, None, None]

  def change(name, layer):
    if name != 'Dense_1':
      return layer
    return layer.replace(kernel=layer.kernel * scale)

  network = with_layers(state.critic.network, change)
  found = plasticity.over_critics(
    plasticity.network_norms, network.params, network.params
  )
  # Units of norm 1 and biases of 0; the output is orthogonal of gain sqrt 2.
  one = np.sqrt(WIDTH)
  expected = {'Dense_0': one, 'Dense_1': 2 * one, 'q': np.sqrt(2)}
  for layer, norm in expected.items():
    np.testing.assert_allclose(found[f'weight_norm/{layer}'], norm, rtol=1e-5)
  np.testing.assert_allclose(
    found['weight_norm'], 3 * one + np.sqrt(2), rtol=1e-5
  )


def test_effective_learning_rates_are_weighted_by_size():
  params = {
    'net': {
      'Dense_0': {
        'weights': UnitAffine(jnp.full((2, 3), 4.0), jnp.array([3.0, 4.0, 0.0]))
      },
      'q': {'weights': Affine(jnp.full((3, 1), 1.0), jnp.zeros(1))},
      'norm': {'scale': jnp.ones(3)},
    }
  }
  rates = {'Dense_0': 2.0, 'q': 0.5, 'norm': 1.0}
  grads = {
    'net': {
      name: jax.tree.map(lambda x, rate=rate: rate * x, params['net'][name])
      for name, rate in rates.items()
    }
  }
  grads['net']['q']['weights'] = Affine(jnp.full((3, 1), 0.5), jnp.ones(1))
  found = plasticity.network_norms(params, grads)
  # 6 and 3 numbers at 2, 3 at .5, 3 at 1; the bias of 0 has no rate.
  np.testing.assert_allclose(
    found['effective_lr'], (9 * 2 + 3 * 0.5 + 3 * 1) / 15, rtol=1e-6
  )
  np.testing.assert_allclose(found['effective_lr/Dense_0'], 2.0, rtol=1e-6)
  np.testing.assert_allclose(found['effective_lr/q'], 0.5, rtol=1e-6)
  squares = 4 * (6 * 16 + 25) + 3 * 0.25 + 1 + 3
  np.testing.assert_allclose(found['grad_norm'], np.sqrt(squares), rtol=1e-6)
  assert {n for n in found if '/' in n} == {
    f'{kind}/{layer}'
    for kind in ('weight_norm', 'effective_lr')
    for layer in ('Dense_0', 'q')
  }


@pytest.mark.parametrize('preset', ['crossq_wn', 'sac'])
def test_gradient_norms_are_those_of_the_reference(preset):
  config = from_preset(preset, **SMALL)
  agent = Agent(config, OBS, ACTION)
  state = jax.jit(agent.init)(jax.random.key(0))
  batch = make_batch(np.random.default_rng(0))
  diagnostics = Diagnostics(Trainer(config, probes.Counter(10)))
  diagnostics._agent = agent
  key = jax.random.key(5)
  found = jax.jit(diagnostics.gradients)(state, batch, key)

  mirror = to_reference(state, config)
  columns, noise_next, noise = reference_inputs(batch, key)
  next_action, next_log_prob, _, _ = reference.policy_forward(
    mirror['actor'],
    mirror['actor_stats'],
    columns['next_obs'],
    noise_next,
    config,
    False,
  )
  y = reference.critic_target(
    mirror, columns, next_action, next_log_prob, config
  )
  _, critic, _ = reference.critic_loss_and_grads(
    mirror, columns, next_action, y, config
  )
  _, actor, _ = reference.actor_loss_and_grads(
    mirror, columns['obs'], noise, config
  )

  def norm(grads):
    leaves = reference.tree_leaves(grads)
    return np.sqrt(sum(np.sum(x**2) for x in leaves))

  expected = np.mean([norm(grads) for grads in critic])
  np.testing.assert_allclose(found['critic_grad_norm'], expected, rtol=1e-4)
  np.testing.assert_allclose(found['actor_grad_norm'], norm(actor), rtol=1e-4)


# -------------------------------------------------------------- activations


def test_dead_units_are_counted():
  """Units with bias -1 and no weights: 3 and 1 of 16, in one critic of two."""
  diagnostics, agent = of_probe(probes.Counter(10))
  dead = {'Dense_0': 3, 'Dense_1': 1}

  def change(name, layer):
    bias = np.ones(layer.bias.shape)
    bias[1, : dead.get(name, 0)] = -1
    return layer.replace(kernel=layer.kernel * 0, bias=jnp.float32(bias))

  critic = agent.critic.replace(
    network=with_layers(agent.critic.network, change)
  )
  replay = jax.random.normal(jax.random.key(1), (64, 7))
  rows = diagnostics._sample(replay, None, jax.random.key(2), 32, 64)
  found = jax.jit(diagnostics.activations)(agent.replace(critic=critic), rows)
  np.testing.assert_allclose(found['critic_dormant'], (0 + 4 / 32) / 2)
  # Without weights every row has the same features.
  assert with_ranks(found)['critic_feature_rank'] == 1


def test_dormant_is_relative_to_the_mean_of_the_layer():
  # Means .04, 2, 4 and 1.96: their mean is 2 and the threshold .05.
  layer = jnp.array([[0.04, 4.0, 4.0, -1.96], [-0.04, 0.0, 4.0, 1.96]])
  assert plasticity.dormant_share([layer]) == 1 / 4
  assert plasticity.dormant_share([layer, jnp.zeros((2, 4))]) == 5 / 8
  assert plasticity.dormant_share([layer.at[:, 0].set(0.06)]) == 0
  assert np.isnan(plasticity.dormant_share([layer.at[0, 0].set(jnp.nan)]))


def test_feature_rank_of_known_singular_values():
  rng = np.random.default_rng(0)
  left, _ = np.linalg.qr(rng.normal(size=(20, 20)))
  right, _ = np.linalg.qr(rng.normal(size=(6, 6)))
  for values, rank in (
    ([90, 8, 1.5, 0.5, 0, 0], 3),  # .90, .98, .995
    ([90, 9.5, 0.5, 0, 0, 0], 2),
    ([1, 1, 1, 1, 1, 1], 6),
    ([0, 0, 0, 0, 0, 0], 0),
  ):
    features = left[:, :6] @ np.diag(values) @ right.T
    assert plasticity.feature_rank(np.float32(features)) == rank
  broken = np.stack([features, np.where(np.eye(20, 6), np.nan, 1)])
  ranks = plasticity.feature_rank(broken)
  assert ranks[0] == 0 and np.isnan(ranks[1])


@pytest.mark.parametrize('preset', ['crossq_wn', 'sac'])
def test_hidden_activations_are_those_of_the_reference(preset):
  config = from_preset(preset, **SMALL)
  agent = Agent(config, OBS, ACTION)
  state = jax.jit(agent.init)(jax.random.key(0))
  batch = make_batch(np.random.default_rng(0))
  # After a pass in train mode the running statistics are not those at birth.
  inputs = one((batch, jax.random.key(0)))
  state, _ = jax.jit(agent.update)(state, *inputs, True)
  mirror = to_reference(state, config)

  def check(activations, features, params, stats, inputs):
    _, cache, _ = reference.net_forward(
      params, stats, np.asarray(inputs, np.float64), config, False
    )
    np.testing.assert_allclose(features, cache['features'], atol=1e-4)
    assert len(activations) == len(cache['hidden'])
    for layer, (_, active, norm) in zip(
      activations, cache['hidden'], strict=True
    ):
      np.testing.assert_array_equal(layer > 0, active)
      if norm is not None:
        np.testing.assert_allclose(layer, norm[0], atol=1e-4)

  check(
    *plasticity.hidden(agent.actor, state.actor.network, batch.obs),
    mirror['actor'],
    mirror['actor_stats'],
    batch.obs,
  )
  activations, features = plasticity.hidden(
    agent.critic, state.critic.network, batch.obs, batch.action
  )
  for i in range(config.num_critics):
    check(
      [layer[i] for layer in activations],
      features[i],
      mirror['critics'][i],
      mirror['critic_stats'][i],
      np.concatenate([batch.obs, batch.action], axis=1),
    )


@pytest.mark.parametrize(
  ('preset', 'widths'),
  [('xqc', 4 * [1]), ('bro', 3 * [1]), ('flashsac', [4, 1, 4, 1])],
)
def test_hidden_activations_of_other_blocks(preset, widths):
  """What the heads make of the features is what the network says."""
  settings = {**SMALL, 'critic_layers': 4 if preset == 'xqc' else 2}
  config = from_preset(preset, **settings)
  agent = Agent(config, OBS, ACTION)
  state = jax.jit(agent.init)(jax.random.key(0))
  batch = make_batch(np.random.default_rng(0))
  critic = state.critic.network
  activations, features = plasticity.hidden(
    agent.critic, critic, batch.obs, batch.action
  )
  for layer, width in zip(activations, widths, strict=True):
    assert layer.shape == (config.num_critics, BATCH, width * WIDTH)
    assert jnp.min(layer) == 0 < jnp.max(layer)
  (module,) = critic.params
  head = critic.params[module]['q']['weights']
  out = features @ head.kernel + head.bias[:, None]
  np.testing.assert_allclose(
    agent.values.mean(out),
    agent.q_values(critic, batch.obs, batch.action),
    atol=1e-5,
  )


def test_entropy_of_a_gaussian_that_tanh_hardly_bends():
  agent = Agent(from_preset('crossq_wn', **SMALL), OBS, ACTION)
  state = jax.jit(agent.init)(jax.random.key(0))
  biases = {'log_std': -3.0}

  def change(name, layer):
    bias = jnp.full_like(layer.bias, biases.get(name, 0.0))
    return layer.replace(kernel=layer.kernel * 0, bias=bias)

  actor = with_layers(state.actor.network, change)
  diagnostics, _ = of_probe(probes.Counter(10))
  diagnostics._agent = agent
  found = diagnostics.entropy(actor, jnp.ones((8192, OBS)), jax.random.key(0))
  expected = ACTION * (0.5 * np.log(2 * np.pi * np.e) - 3)
  np.testing.assert_allclose(found, expected, atol=0.06)


# ------------------------------------------------------------------ the run


def test_a_diagnosed_run_is_the_run_it_would_have_been(tmp_path):
  settings = {**SHORT, 'env_steps': 60, 'log_every': 40, 'num_seeds': 2}
  plain = from_preset('crossq_wn', **settings)
  env = probes.Counter(10)
  without = train(plain, env, report=lambda line: None)
  assert without.runner.traces['diagnose'] == 0
  lines = []
  diagnosed = train(
    plain.replace(diagnostics_every=24),
    env,
    workdir=tmp_path,
    report=lines.append,
  )
  assert_same_bits(without.state, diagnosed.state)

  text = (tmp_path / 'metrics.jsonl').read_text()
  records = [json.loads(line) for line in text.splitlines()]
  steps = [r['env_step'] for r in records if r['seed'] == 0]
  assert steps == [24, 40, 48, 60]
  for record in records:
    names = {name for name in record if name.startswith('diag/')}
    assert bool(names) == (record['env_step'] != 40)  # 60 is the end
  (said,) = [line for line in lines if line.startswith('diagnostics: ')]
  assert said.endswith(' s each 24 env steps')


@pytest.mark.slow
def test_seeds_and_steps_have_diagnoses_of_their_own():
  config = from_preset('crossq_wn', **SMALL)
  runner = Runner(config, probes.Counter(10))
  state, _ = runner.train_chunk(runner.init(), 20)
  a, b, c = (runner.diagnose(state, step) for step in (40, 40, 80))
  assert runner.traces['diagnose'] == 1
  for name, values in a.items():
    assert values.shape == (config.num_seeds,)
    assert np.all(np.isfinite(values)), name
    np.testing.assert_array_equal(values, b[name])
    assert values[0] != values[1] or 'rank' in name or 'dormant' in name, name
  for name in ('q_bias_mean', 'critic_grad_norm', 'entropy'):
    assert not np.array_equal(a[name], c[name]), name
