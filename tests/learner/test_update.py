"""`Agent.update` against the float64 NumPy statement of the same equations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mjx_crossq import Agent, Transition, from_preset
from mjx_crossq.learner import weight_norm
from tests.learner import reference

OBS, ACTION, BATCH, UPDATES = 7, 3, 64, 4
SMALL = {
  'critic_width': 32,
  'actor_width': 24,
  'batch_size': BATCH,
  'policy_delay': 3,
  'matmul_precision': 'highest',
}
# Renorm is switched on after one call, with limits that some units reach.
RENORM = {'renorm_warmup': 1, 'renorm_r_max': 1.3, 'renorm_d_max': 0.5}
CASES = {
  'crossq_wn': ('crossq_wn', {}),
  'crossq_wn_no_target': ('crossq_wn_no_target', {}),
  'crossq_wn_free': ('crossq_wn', {'weight_norm': False}),
  'crossq': ('crossq', RENORM),
  'crossq_target': ('crossq', {**RENORM, 'target_network': True}),
  'crossq_warmup': ('crossq', {}),
  'crossq_512': ('crossq_512', RENORM),
  'sac': ('sac', {}),
}


def to_reference_net(network, config, index=None):
  """A flax network in the reference's layout, in float64."""

  def pick(x):
    return np.asarray(x if index is None else x[index], np.float64)

  tree = network.params if index is None else network.params['VmapMLP_0']
  stats = network.batch_stats
  stats = stats.get('VmapMLP_0', {}) if index is not None else stats
  if index is None:
    tree, stats = tree['MLP_0'], stats.get('MLP_0', {})
  norm = None if config.normalization == 'none' else 'BatchNorm'

  def norm_params(i):
    if norm is None:
      return None, None
    params, running = tree[f'{norm}_{i}'], stats[f'{norm}_{i}']
    steps = int(running['steps'].ravel()[0]) if 'steps' in running else 0
    return (
      {'scale': pick(params['scale']), 'bias': pick(params['bias'])},
      {
        'mean': pick(running['mean']),
        'var': pick(running['var']),
        'steps': steps,
      },
    )

  def affine(name):
    layer = tree[name]['weights']
    return {'kernel': pick(layer.kernel), 'bias': pick(layer.bias)}

  layers = [name for name in sorted(tree) if name.startswith('Dense')]
  heads = [n for n in tree if n in ('q', 'mean', 'log_std')]
  inputs = norm_params(0)
  norms = [norm_params(i + 1) for i in range(len(layers))]
  params = {
    'input_norm': inputs[0],
    'hidden': [
      {**affine(name), 'norm': n[0]}
      for name, n in zip(layers, norms, strict=True)
    ],
    'heads': {name: affine(name) for name in heads},
  }
  return params, {'input_norm': inputs[1], 'hidden': [n[1] for n in norms]}


def to_reference(state, config):
  """Networks and temperature of an `AgentState` in the reference's layout."""
  actor, actor_stats = to_reference_net(state.actor.network, config)
  critics = [
    to_reference_net(state.critic.network, config, i)
    for i in range(config.num_critics)
  ]
  targets = None
  if config.target_network:
    target = state.critic.network.replace(params=state.critic.target_params)
    targets = [
      to_reference_net(target, config, i)[0] for i in range(config.num_critics)
    ]
  return {
    'actor': actor,
    'actor_stats': actor_stats,
    'critics': [params for params, _ in critics],
    'critic_stats': [stats for _, stats in critics],
    'target_critics': targets,
    'log_alpha': float(state.actor.log_alpha),
  }


def make_batch(rng):
  obs = rng.normal(size=(BATCH, OBS)) * 2 + 3  # far from zero mean
  return Transition(
    obs=obs.astype(np.float32),
    action=rng.uniform(-1, 1, (BATCH, ACTION)).astype(np.float32),
    reward=rng.normal(size=BATCH).astype(np.float32),
    mask=(rng.uniform(size=BATCH) > 0.1).astype(np.float32),
    next_obs=(obs + rng.normal(size=obs.shape)).astype(np.float32),
  )


def one(inputs):
  """The batch and the key of a single update, as `Agent.update` takes them."""
  return jax.tree.map(lambda x: x[None], inputs)


def reference_inputs(batch, key):
  """What an update takes, in float64: columns, and the noise of a' and a."""
  columns = {
    'obs': batch.obs,
    'action': batch.action,
    'reward': batch.reward,
    'discount_mask': batch.mask,
    'next_obs': batch.next_obs,
  }
  noises = (
    jax.random.normal(k, (BATCH, ACTION)) for k in jax.random.split(key)
  )
  return (
    {name: np.asarray(x, np.float64) for name, x in columns.items()},
    *(np.asarray(noise, np.float64) for noise in noises),
  )


def relative_errors(actual, expected):
  """Norm of the difference over the norm, for each tensor."""
  a = reference.tree_leaves(actual)
  b = reference.tree_leaves(expected)
  assert len(a) == len(b)
  return [
    np.linalg.norm(np.subtract(x, y)) / max(np.linalg.norm(y), 1e-2)
    for x, y in zip(a, b, strict=True)
  ]


@pytest.fixture(scope='module', params=CASES, ids=list(CASES))
def run(request):
  """An agent after a few updates, and the reference after the same."""
  preset, changes = CASES[request.param]
  config = from_preset(preset, **{**SMALL, **changes})
  agent = Agent(config, OBS, ACTION)
  update = jax.jit(lambda *x: agent.update(x[0], *one(x[1:3]), x[3]))
  state = agent.init(jax.random.key(0))
  mirror = reference.init_optimisers(to_reference(state, config))
  rng = np.random.default_rng(0)
  states, infos, metrics = [state], [], []
  for index in range(UPDATES):
    batch = make_batch(rng)
    key = jax.random.key(index)
    with_actor = index % config.policy_delay == 0
    state, measured = update(state, batch, key, with_actor)
    columns, noise_next, noise_actor = reference_inputs(batch, key)
    mirror, info = reference.update(
      mirror, columns, noise_next, noise_actor, config, index
    )
    states.append(state)
    infos.append(info)
    metrics.append(measured)
  return (
    config,
    agent,
    states,
    to_reference(state, config),
    mirror,
    infos,
    metrics,
  )


@pytest.mark.parametrize(
  'part',
  ['actor', 'actor_stats', 'critics', 'critic_stats', 'target_critics'],
)
def test_networks_agree_after_updates(run, part):
  config, _, _, actual, expected, _, _ = run
  if part == 'target_critics' and not config.target_network:
    assert actual[part] is None
    return
  actual, expected = actual[part], expected[part]
  if config.normalization == 'batch':
    # Only renorm counts its train-mode calls.
    for nets in (actual, expected):
      for net in nets if isinstance(nets, list) else [nets]:
        for stats in [net['input_norm'], *net['hidden']]:
          stats.pop('steps', None)
  assert max(relative_errors(actual, expected), default=0.0) < 1e-4


def assert_temperature_agrees(state, log_alpha, opt_state):
  """Both in float64; Adam's steps hide how large a gradient was."""
  actor = state.actor
  np.testing.assert_allclose(actor.log_alpha, log_alpha, rtol=1e-6, atol=1e-7)
  mean = optax.tree_utils.tree_get(actor.alpha_opt_state, 'mu')
  np.testing.assert_allclose(mean, opt_state['mean'], rtol=1e-4)


def test_temperature_and_losses_agree(run):
  _, _, states, _, expected, infos, metrics = run
  assert_temperature_agrees(
    states[-1], expected['log_alpha'], expected['alpha_opt']
  )
  for info, measured in zip(infos, metrics, strict=True):
    np.testing.assert_allclose(
      measured['critic_loss'], info['critic_loss'], rtol=1e-4
    )
    if 'actor_loss' in info:
      np.testing.assert_allclose(
        measured['actor_loss'], info['actor_loss'], rtol=1e-4, atol=1e-5
      )


def test_actor_moves_only_when_due(run):
  config, _, states, *_ = run
  for index, (before, after) in enumerate(itertools.pairwise(states)):
    same = [
      np.array_equal(a, b)
      for a, b in zip(
        jax.tree.leaves(before.actor), jax.tree.leaves(after.actor), strict=True
      )
    ]
    if index % config.policy_delay == 0:
      assert not all(same)
    else:
      assert all(same)


def normalized_layers(tree):
  nodes = jax.tree_util.tree_leaves_with_path(
    tree, is_leaf=weight_norm.is_normalized
  )
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): node
    for path, node in nodes
    if weight_norm.is_normalized(node)
  }


def test_exactly_the_hidden_layers_stay_at_norm_one(run):
  config, _, states, *_ = run
  expected = set()
  if config.weight_norm:
    layers = range(2)
    expected = {f'MLP_0/Dense_{i}/weights' for i in layers} | {
      f'VmapMLP_0/Dense_{i}/weights' for i in layers
    }
  for state in states:
    found = {}
    for params in (state.actor.network.params, state.critic.network.params):
      found |= normalized_layers(params)
    assert set(found) == expected
    for layer in found.values():
      columns = jnp.concatenate(
        [layer.kernel, layer.bias[..., None, :]], axis=-2
      )
      norms = jnp.linalg.norm(columns, axis=-2)
      np.testing.assert_allclose(norms, 1.0, atol=1e-5)


def test_output_layers_are_free(run):
  _, _, states, *_ = run
  first, last = states[0], states[-1]
  for name, tree in (('q', lambda s: s.critic), ('mean', lambda s: s.actor)):
    norms = [
      float(
        jnp.linalg.norm(
          next(iter(tree(s).network.params.values()))[name]['weights'].kernel
        )
      )
      for s in (first, last)
    ]
    assert abs(norms[0] - 1) > 1e-2 and norms[0] != norms[1]
