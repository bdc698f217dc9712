"""`Agent.update` of the variants against `complex_reference`.

The presets of the paper itself are in `test_update`, with gradients by hand.
"""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Agent, Transition, from_preset
from mjx_crossq.learner import weight_norm
from tests.learner import complex_reference as reference
from tests.learner.reference import tree_leaves
from tests.learner.test_update import assert_temperature_agrees, one

OBS, ACTION, BATCH, UPDATES = 5, 2, 32, 4
SMALL = {
  'critic_width': 8,
  'actor_width': 6,
  'batch_size': BATCH,
  'matmul_precision': 'highest',
  # So that four updates move the target network visibly.
  'tau': 0.1,
}
# Four updates to the last learning rate: the decisions after the warm-up.
DECAY = {'lr_decay_steps': 5, 'warmup': 1, 'utd': 1, 'action_repeat': 1}
CASES = {
  'crossq_wn': ('crossq_wn', {}),
  'crossq_wn_no_target': ('crossq_wn_no_target', {}),
  'layer_norm': ('crossq_wn', {'normalization': 'layer'}),
  'no_norm': ('crossq_wn', {'normalization': 'none'}),
  'two_passes': ('crossq_wn', {'joint_pass': False}),
  'two_passes_no_target': ('crossq_wn_no_target', {'joint_pass': False}),
  'soft_l2': ('crossq_wn', {'weight_norm': False, 'soft_l2': 0.1}),
  'xqc': ('xqc', DECAY | {'atoms': 11}),
  'flashsac': (
    'flashsac',
    DECAY | {'atoms': 11, 'critic_width': 4, 'actor_width': 3},
  ),
  'quantile': ('crossq_wn', {'critic_value': 'quantile', 'atoms': 5}),
  'mean_of_two': ('crossq_wn', {'critic_reduction': 'mean'}),
  'bro': ('bro', {'atoms': 7}),
  'one_critic': ('crossq_wn', {'num_critics': 1}),
  'three_critics': ('crossq_wn', {'num_critics': 3}),
}


def to_dict(tree):
  """Parameters as nested dicts of float64 arrays; layers become dicts too."""
  if tree is None:
    return None
  if weight_norm.is_layer(tree):
    tree = {'kernel': tree.kernel, 'bias': tree.bias}
  elif isinstance(tree, weight_norm.UnitScale):
    tree = {'scale': tree.scale, 'bias': tree.bias}
    tree = {name: x for name, x in tree.items() if x is not None}
  if not isinstance(tree, dict):
    return np.asarray(tree, np.float64)
  if set(tree) == {'weights'}:
    return to_dict(tree['weights'])
  return {name: to_dict(node) for name, node in tree.items()}


def members(params, config):
  """One dict for each critic of an ensemble."""
  return [
    to_dict(jax.tree.map(lambda x, i=i: x[i], params.get('VmapMLP_0', {})))
    for i in range(config.num_critics)
  ]


def to_reference(state, config):
  actor, critic = state.actor.network, state.critic.network
  targets, explorer = None, state.actor.explorer
  if config.target_network:
    targets = members(state.critic.target_params, config)
  return {
    'actor': to_dict(actor.params['MLP_0']),
    'actor_stats': to_dict(actor.batch_stats.get('MLP_0', {})),
    'critics': members(critic.params, config),
    'critic_stats': members(critic.batch_stats, config),
    'targets': targets,
    'log_alpha': np.float64(state.actor.log_alpha),
    'explorer': explorer and to_dict(explorer.params),
    'raw': explorer and to_dict(explorer.raw),
  }


def make_batch(rng):
  obs = rng.normal(size=(BATCH, OBS)) * 2 + 1
  return Transition(
    obs=obs.astype(np.float32),
    action=rng.uniform(-1, 1, (BATCH, ACTION)).astype(np.float32),
    reward=rng.normal(size=BATCH).astype(np.float32),
    mask=(rng.uniform(size=BATCH) > 0.1).astype(np.float32),
    next_obs=(obs + rng.normal(size=obs.shape)).astype(np.float32),
  )


@pytest.fixture(scope='module', params=CASES, ids=list(CASES))
def run(request):
  """An agent after a few updates, and the reference after the same."""
  preset, changes = CASES[request.param]
  config = from_preset(preset, **{**SMALL, **changes})
  agent = Agent(config, OBS, ACTION)
  update = jax.jit(lambda *x: agent.update(x[0], *one(x[1:3]), x[3]))
  state = agent.init(jax.random.key(0))
  mirror = reference.start(to_reference(state, config))
  rng = np.random.default_rng(0)
  states, mirrors, infos, metrics = [state], [mirror], [], []
  for index in range(UPDATES):
    batch, key = make_batch(rng), jax.random.key(index)
    due = index % config.policy_delay == 0
    state, measured = update(state, batch, key, due)
    keys = list(jax.random.split(key))
    keys.append(jax.random.fold_in(keys[1], 1))
    noises = (
      np.asarray(jax.random.normal(k, (BATCH, ACTION)), np.float64)
      for k in keys
    )
    columns = {
      field.name: np.asarray(getattr(batch, field.name), np.float64)
      for field in dataclasses.fields(Transition)
    }
    mirror, info = reference.update(mirror, columns, *noises, config, due)
    states.append(state)
    mirrors.append(mirror)
    infos.append(info)
    metrics.append(measured)
  return config, states, mirrors, infos, metrics


def assert_close(actual, expected):
  actual, expected = tree_leaves(actual), tree_leaves(expected)
  assert len(actual) == len(expected)
  for a, b in zip(actual, expected, strict=True):
    error = np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-2)
    assert error < 1e-4, (a.shape, error)


def test_parameters_and_statistics_agree(run):
  config, states, mirrors, *_ = run
  actual, expected = to_reference(states[-1], config), mirrors[-1]
  if config.block == 'norm_relu':
    # The next batch norm takes the input's shift out again: its gradient is
    # 0, and Adam makes steps of the rounding. The next running mean is all
    # that it shows in.
    for agent in (actual, expected):
      for net in (agent['actor'], *agent['critics'], *agent['targets']):
        del net['BatchNorm_0']['bias']
      for stats in (agent['actor_stats'], *agent['critic_stats']):
        assert np.abs(stats['BatchNorm_1'].pop('mean')).max() < 1e-4
  for part in actual:
    assert_close(actual[part], expected[part])


def test_the_temperature_agrees(run):
  _, states, mirrors, *_ = run
  expected = mirrors[-1]
  assert_temperature_agrees(
    states[-1], expected['log_alpha'], expected['opts']['alpha']
  )


def test_losses_agree(run):
  _, _, _, infos, metrics = run
  for info, measured in zip(infos, metrics, strict=True):
    for name, value in info.items():
      np.testing.assert_allclose(measured[name], value, rtol=1e-4, atol=1e-5)


def test_every_parameter_moves(run):
  _, states, *_ = run
  for before, after in itertools.pairwise(
    [states[0].critic.network.params, states[-1].critic.network.params]
  ):
    pairs = zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)
    assert all(bool(jnp.any(a != b)) for a, b in pairs)


def test_hidden_units_keep_norm_one_with_weight_norm_only(run):
  config, states, *_ = run
  for params in (
    states[-1].actor.network.params,
    states[-1].critic.network.params,
  ):
    layers = jax.tree.leaves(params, is_leaf=weight_norm.is_layer)
    layers = [node for node in layers if weight_norm.is_layer(node)]
    unit = [
      np.allclose(weight_norm.unit_norms(layer), 1, atol=1e-5)
      for layer in layers
    ]
    normalized = [weight_norm.is_normalized(layer) for layer in layers]
    assert unit == normalized
    assert any(normalized) == config.weight_norm
