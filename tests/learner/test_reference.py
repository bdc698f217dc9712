"""The reference's hand-derived gradients against central differences."""

import copy

import numpy as np
import pytest

from tests.learner import reference

OBS, ACTION, BATCH = 4, 2, 8

CONFIG = dict(
  critic_lr=3e-4,
  actor_lr=1e-3,
  alpha_lr=1e-4,
  adam_b1=0.9,
  adam_b2=0.999,
  alpha_b1=0.9,
  weight_decay=1e-2,
  gamma=0.99,
  tau=0.005,
  policy_delay=3,
  target_entropy=-0.5,
  log_std_min=-1.0,
  log_std_max=0.5,
  normalization='batch',
  bn_momentum=0.99,
  bn_eps=1e-3,
  renorm_warmup=5,
  renorm_r_max=1.5,
  renorm_d_max=0.7,
  weight_norm=True,
  target_network=True,
)
KINDS = ('none', 'batch', 'batch_renorm')


def make_net(rng, inputs, widths, heads, config):
  def norm(size):
    if config['normalization'] == 'none':
      return None, None
    params = {'scale': rng.uniform(0.5, 2, size), 'bias': rng.normal(size=size)}
    stats = {'mean': rng.normal(size=size), 'var': rng.uniform(0.3, 2, size)}
    return params, {**stats, 'steps': 7}

  def dense(size, out):
    kernel = rng.normal(size=(size, out)) / np.sqrt(size)
    return {'kernel': kernel, 'bias': 0.3 * rng.normal(size=out)}

  params, stats = {'hidden': []}, {'hidden': []}
  params['input_norm'], stats['input_norm'] = norm(inputs)
  for width in widths:
    layer_norm, layer_stats = norm(width)
    params['hidden'].append({**dense(inputs, width), 'norm': layer_norm})
    stats['hidden'].append(layer_stats)
    inputs = width
  params['heads'] = {name: dense(inputs, out) for name, out in heads.items()}
  return params, stats


def make_problem(seed, **changes):
  rng = np.random.default_rng(seed)
  config = {**CONFIG, **changes}
  heads = {'mean': ACTION, 'log_std': ACTION}
  actor, actor_stats = make_net(rng, OBS, (5, 6), heads, config)
  critics, critic_stats, targets = [], [], []
  for _ in range(2):
    net = make_net(rng, OBS + ACTION, (6, 5), {'q': 1}, config)
    critics.append(net[0])
    critic_stats.append(net[1])
    targets.append(
      reference.tree_map(lambda x: x + 0.1 * rng.normal(size=x.shape), net[0])
    )
  agent = {
    'actor': actor,
    'actor_stats': actor_stats,
    'critics': critics,
    'critic_stats': critic_stats,
    'target_critics': targets if config['target_network'] else None,
    'log_alpha': -0.3,
  }
  batch = {
    'obs': rng.normal(size=(BATCH, OBS)),
    'action': rng.uniform(-1, 1, (BATCH, ACTION)),
    'reward': rng.normal(size=BATCH),
    'discount_mask': (np.arange(BATCH) != 3).astype(float),
    'next_obs': rng.normal(size=(BATCH, OBS)),
  }
  noise = rng.normal(size=(2, BATCH, ACTION))
  return reference.init_optimisers(agent), batch, noise, config


def difference(loss, params, step=1e-6):
  """Central differences of `loss(params)` for every entry."""
  params = copy.deepcopy(params)

  def of_leaf(leaf):
    grads = np.zeros_like(leaf)
    for index in np.ndindex(leaf.shape):
      value = leaf[index]
      leaf[index] = value + step
      up = loss(params)
      leaf[index] = value - step
      down = loss(params)
      leaf[index] = value
      grads[index] = (up - down) / (2 * step)
    return grads

  return reference.tree_map(of_leaf, params)


def assert_trees_close(actual, expected, rtol):
  actual = reference.tree_leaves(actual)
  expected = reference.tree_leaves(expected)
  scale = max(np.abs(leaf).max() for leaf in expected)
  assert scale > 1e-3
  for a, b in zip(actual, expected, strict=True):
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


def check(loss_and_grads, agent, name, *rest):
  """Compares gradients to `agent[name]`, Batch Renorm's r and d held."""
  loss, grads, aux = loss_and_grads(agent, *rest)

  def frozen_loss(params):
    return loss_and_grads({**agent, name: params}, *rest, aux['frozen'])[0]

  assert frozen_loss(agent[name]) == loss
  assert_trees_close(grads, difference(frozen_loss, agent[name]), 1e-6)
  return grads, aux


def critic_check(agent, batch, config):
  rest = (batch, np.tanh(batch['next_obs'][:, :ACTION]), batch['reward'])
  loss = reference.critic_loss_and_grads
  return check(loss, agent, 'critics', *rest, config)


def actor_check(agent, batch, noise, config):
  loss = reference.actor_loss_and_grads
  return check(loss, agent, 'actor', batch['obs'], noise, config)


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('kind', KINDS)
def test_critic_gradients(kind, seed):
  agent, batch, _, config = make_problem(seed, normalization=kind)
  _, aux = critic_check(agent, batch, config)
  if kind == 'batch_renorm':  # some of r and d are clipped, some are not
    for bound, k in ((config['renorm_r_max'], 0), (config['renorm_d_max'], 1)):
      values = [np.ravel(c['input_norm'][k]) for c in aux['frozen']]
      values += [c[k] for net in aux['frozen'] for c in net['hidden']]
      values = np.concatenate(values)
      clipped = (values == bound) | (values == (1 / bound, -bound)[k])
      assert 0 < clipped.sum() < clipped.size


@pytest.mark.parametrize('kind', ['batch', 'batch_renorm'])
def test_gradients_with_a_dead_unit(kind):
  agent, batch, noise, config = make_problem(0, normalization=kind)
  for net in (*agent['critics'], agent['actor']):
    net['hidden'][0]['bias'][0] = -50
  grads, _ = critic_check(agent, batch, config)
  actor_check(agent, batch, noise[1], config)
  assert not grads[0]['hidden'][0]['kernel'][:, 0].any()


@pytest.mark.parametrize('seed', range(3))
@pytest.mark.parametrize('kind', KINDS)
def test_actor_gradients(kind, seed):
  agent, batch, noise, config = make_problem(seed, normalization=kind)
  # Shifting one critic's output makes each of the two the smaller somewhere.
  _, _, aux = reference.actor_loss_and_grads(
    agent, batch['obs'], noise[1], config
  )
  gap = aux['q'][1] - aux['q'][0]
  agent['critics'][0]['heads']['q']['bias'] += np.mean(gap)
  # Bounds inside the range of log_std make it clip on both sides.
  names = ('actor', 'actor_stats')
  heads, _, _ = reference.net_forward(
    *(agent[k] for k in names), batch['obs'], reference.as_config(config), True
  )
  low, high = np.quantile(heads['log_std'], [0.3, 0.7])
  config = {**config, 'log_std_min': low, 'log_std_max': high}
  _, aux = actor_check(agent, batch, noise[1], config)
  assert set(aux['q'].argmin(0)) == {0, 1}


def test_actor_gradient_vanishes_where_log_std_clips():
  agent, batch, noise, config = make_problem(0)
  agent['actor']['heads']['log_std']['bias'] += 100
  grads, _ = actor_check(agent, batch, noise[1], config)
  assert not grads['heads']['log_std']['kernel'].any()


def test_alpha_gradient():
  logp = np.linspace(-2, 1, 5)

  def loss(log_alpha):
    return reference.alpha_loss_and_grad(log_alpha, logp, 6, CONFIG)[0]

  _, gradient = reference.alpha_loss_and_grad(-0.3, logp, 6, CONFIG)
  numeric = (loss(-0.3 + 1e-6) - loss(-0.3 - 1e-6)) / 2e-6
  assert loss(0.0) == pytest.approx(np.mean(-logp) + 3)
  assert gradient == pytest.approx(numeric, rel=1e-6)


def test_log_density_integrates_to_one():
  actor, stats = make_net(
    np.random.default_rng(0), OBS, (5,), {'mean': 1, 'log_std': 1}, CONFIG
  )
  noise = np.linspace(-8, 8, 40001)[:, None]
  obs = np.full((len(noise), OBS), 0.3)
  config = reference.as_config(CONFIG)
  action, logp, _, _ = reference.policy_forward(
    actor, stats, obs, noise, config, False
  )
  mass = np.trapezoid(np.exp(logp), action[:, 0])
  assert mass == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('target_network', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_critic_target(kind, target_network):
  agent, batch, noise, config = make_problem(
    0, normalization=kind, target_network=target_network
  )
  next_action, next_logp = np.tanh(noise[0]), noise[1][:, 0]
  # The order of the rows cannot matter to the statistics, so s' may go first.
  swapped = {'obs': batch['next_obs'], 'action': next_action}
  swapped['next_obs'] = batch['obs']
  nets = agent['target_critics' if target_network else 'critics']
  _, _, aux = reference.critic_loss_and_grads(
    {**agent, 'critics': nets},
    swapped,
    batch['action'],
    batch['reward'],
    config,
  )
  soft = np.minimum(*aux['q']) - np.exp(-0.3) * next_logp
  soft[3] = 0
  actual = reference.critic_target(agent, batch, next_action, next_logp, config)
  np.testing.assert_allclose(actual, batch['reward'] + 0.99 * soft, rtol=1e-9)


@pytest.mark.parametrize('weight_norm', [True, False])
def test_weight_decay_spares_what_is_normalised(weight_norm):
  agent, _, _, config = make_problem(0, weight_norm=weight_norm)
  config = reference.as_config(config)
  decay = reference.decay_coefficients(agent['actor'], config)
  for layer in decay['hidden']:
    expected = 0 if weight_norm else 1e-2
    assert layer['kernel'] == layer['bias'] == expected
    assert layer['norm'] == {'scale': 1e-2, 'bias': 1e-2}
  assert decay['input_norm'] == {'scale': 1e-2, 'bias': 1e-2}
  assert set(reference.tree_leaves(decay['heads'])) == {1e-2}


def test_renorm_agrees_with_eval_mode_when_not_clipped():
  # Unclipped r and d turn batch into running statistics, up to eps.
  rng = np.random.default_rng(0)
  changes = dict(bn_eps=1e-12, renorm_r_max=1e6, renorm_d_max=1e6)
  config = {**CONFIG, 'normalization': 'batch_renorm', **changes}
  config = reference.as_config(config)
  net, stats = make_net(rng, OBS, (), {}, {'normalization': 'batch_renorm'})
  args = (rng.normal(2, 3, (16, OBS)), net['input_norm'], stats['input_norm'])
  train, _, moved = reference.norm_forward(*args, config, True)
  evaluated, _, kept = reference.norm_forward(*args, config, False)
  np.testing.assert_allclose(train, evaluated, rtol=1e-9)
  assert moved['steps'] == 8 and kept is args[2]
  np.testing.assert_allclose(
    moved['var'], 0.99 * args[2]['var'] + 0.01 * args[0].var(0)
  )
  # During the warm-up it is plain BatchNorm.
  config.renorm_warmup = 8
  warm, _, _ = reference.norm_forward(*args, config, True)
  x = (args[0] - args[0].mean(0)) / args[0].std(0)
  expected = x * args[1]['scale'] + args[1]['bias']
  np.testing.assert_allclose(warm, expected, rtol=1e-9)


@pytest.mark.parametrize('target_network', [True, False])
@pytest.mark.parametrize('weight_norm', [True, False])
@pytest.mark.parametrize('kind', KINDS)
def test_update(kind, weight_norm, target_network):
  agent, batch, noise, config = make_problem(
    1,
    normalization=kind,
    weight_norm=weight_norm,
    target_network=target_network,
  )
  before = copy.deepcopy(agent)
  new, info = reference.update(agent, batch, *noise, config, 3)
  for a, b in zip(*map(reference.tree_leaves, (agent, before)), strict=True):
    np.testing.assert_array_equal(a, b)  # nothing changed in place
  assert np.isclose(info['target'][3], batch['reward'][3])
  for name in ('critics', 'actor'):
    nets = new[name] if name == 'critics' else [new[name]]
    for layer in (layer for net in nets for layer in net['hidden']):
      norm = np.hypot(np.linalg.norm(layer['kernel'], axis=0), layer['bias'])
      assert np.allclose(norm, 1) == weight_norm
  # Adam's first step has length lr; the output layer decays.
  old_head = agent['critics'][0]['heads']['q']['kernel']
  g = info['critic_grads'][0]['heads']['q']['kernel']
  step = -config['critic_lr'] * (g / (np.abs(g) + 1e-8) + 0.01 * old_head)
  new_head = new['critics'][0]['heads']['q']['kernel']
  np.testing.assert_allclose(new_head - old_head, step, rtol=1e-9)
  sign = np.sign(info['alpha_grad'])
  assert np.isclose(new['log_alpha'], agent['log_alpha'] - 1e-4 * sign)
  if target_network:
    old = agent['target_critics'][0]['heads']['q']['kernel']
    np.testing.assert_allclose(
      new['target_critics'][0]['heads']['q']['kernel'],
      0.995 * old + 0.005 * new_head,
    )
  else:
    assert new['target_critics'] is None
  # Between policy updates, actor, its statistics and alpha stay.
  later, info = reference.update(new, batch, *noise, config, 4)
  assert later['actor'] is new['actor'] and 'actor_loss' not in info
  assert later['actor_stats'] is new['actor_stats']
  assert later['log_alpha'] == new['log_alpha']
  assert later['critic_opt']['count'] == 2 and later['actor_opt']['count'] == 1
  if kind != 'none':
    assert later['critic_stats'][0]['input_norm']['steps'] == 9
