"""Presets, types and ranges of the configuration."""

import json
import math

import hypothesis
import jax
import pytest
from hypothesis import strategies as st

from mjx_crossq import Agent, Config, ConfigError, from_preset, parsing
from mjx_crossq import config as config_lib
from mjx_crossq.learner import optimizers


def test_default_is_the_method_of_the_paper():
  c = from_preset('crossq_wn')
  assert (c.critic_width, c.critic_layers, c.num_critics) == (512, 2, 2)
  assert (c.actor_width, c.actor_layers) == (256, 2)
  assert (c.normalization, c.bn_momentum, c.bn_eps) == ('batch', 0.99, 1e-3)
  assert c.weight_norm and c.target_network and c.tau == 0.005
  assert (c.critic_lr, c.actor_lr, c.alpha_lr) == (3e-4, 3e-4, 1e-4)
  assert (c.adam_b1, c.adam_b2, c.weight_decay) == (0.9, 0.999, 1e-2)
  assert (c.batch_size, c.gamma, c.policy_delay) == (256, 0.99, 3)
  assert (c.warmup, c.action_repeat, c.target_entropy) == (5000, 2, -0.5)
  assert (c.replay_capacity, c.utd, c.init_alpha) == (1_000_000, 10, 0.01)


def test_crossq_and_sac_differ_where_their_sources_do():
  c = from_preset('crossq')
  assert (c.critic_width, c.adam_b1, c.target_entropy) == (2048, 0.5, -1.0)
  assert (c.normalization, c.weight_norm) == ('batch_renorm', False)
  assert not c.target_network and c.utd == 1 and c.policy_delay == 3
  c = from_preset('sac')
  assert (c.normalization, c.weight_norm) == ('none', False)
  assert c.target_network and c.critic_width == 256 and c.policy_delay == 1
  c = from_preset('sac_resets')
  assert (c.utd, c.warmup, c.reset_every) == (32, 10_000, 32 * 80_000)
  assert (c.critic_width, c.normalization) == (256, 'none')


def test_variants_of_crossq_are_diffs_of_one_or_three_settings():
  changed = {
    name: {
      key
      for key, value in from_preset(name).to_dict().items()
      if value != from_preset(base).to_dict()[key]
    }
    for name, base in (
      ('crossq_wn_no_target', 'crossq_wn'),
      ('crossq_wn_table1', 'crossq_wn'),
      ('crossq_512', 'crossq'),
    )
  }
  assert changed == {
    'crossq_wn_no_target': {'preset', 'target_network'},
    'crossq_wn_table1': {'preset', 'init_alpha'},
    'crossq_512': {'preset', 'action_repeat', 'critic_width', 'adam_b1'},
  }
  c = from_preset('crossq_512')
  assert (c.critic_width, c.adam_b1, c.action_repeat) == (512, 0.9, 2)


def test_xqc_is_that_of_its_authors():
  c = from_preset('xqc')
  assert (c.critic_value, c.atoms, c.value_limit) == ('categorical', 101, 5.0)
  assert (c.critic_layers, c.critic_width) == (4, 512)
  assert (c.actor_layers, c.actor_width) == (4, 256)
  assert c.block == 'norm_relu' and c.normalization == 'batch'
  assert c.weight_norm and c.weight_norm_outputs and c.weight_decay == 0
  assert c.critic_lr == c.actor_lr == c.alpha_lr == 3e-4
  assert c.lr_final * c.critic_lr == pytest.approx(3e-5)
  assert c.lr_decay_steps == c.env_steps
  assert (c.init_alpha, c.utd, c.policy_delay) == (0.01, 2, 3)
  assert c.normalize_rewards and c.target_network and c.tau == 0.005


def test_bro_is_that_of_its_authors():
  c = from_preset('bro')
  assert (c.critic_value, c.atoms, c.critic_reduction) == (
    'quantile',
    100,
    'mean',
  )
  assert (c.critic_width, c.critic_layers) == (512, 2)
  assert (c.actor_width, c.actor_layers) == (256, 1)
  assert (c.block, c.normalization) == ('residual', 'layer')
  assert c.optimism and (c.explore_std, c.kl_target) == (0.75, 0.05)
  assert (c.weight_norm, c.weight_decay) == (False, 1e-4)
  assert (c.critic_lr, c.actor_lr, c.alpha_lr) == (3e-4, 3e-4, 3e-4)
  assert (c.alpha_b1, c.init_alpha, c.target_entropy) == (0.5, 1.0, -0.5)
  assert (c.batch_size, c.warmup, c.utd) == (128, 2500, 10)
  assert (c.action_repeat, c.policy_delay, c.tau) == (1, 1, 0.005)
  assert (c.log_std_bound, c.log_std_min, c.log_std_max) == ('tanh', -10, 2)
  assert c.reset_at == (15_001, 50_001, 250_001, 500_001, 750_001)


def test_flashsac_is_that_of_its_authors():
  c = from_preset('flashsac')
  assert (c.critic_width, c.critic_layers) == (256, 2)
  assert (c.actor_width, c.actor_layers) == (128, 2)
  assert (c.block, c.normalization, c.bn_eps) == ('inverted', 'batch', 1e-5)
  assert (c.critic_value, c.atoms, c.value_limit) == ('categorical', 101, 5.0)
  assert c.weight_norm and c.weight_norm_outputs and c.weight_norm_scales
  assert c.normalize_rewards and c.bound_returns
  assert c.joint_pass and c.actor_joint_pass and c.policy_delay == 2
  assert (c.log_std_bound, c.log_std_min, c.log_std_max) == ('tanh', -10, 2)
  assert (c.batch_size, c.utd, c.warmup, c.action_repeat) == (512, 1, 10_000, 1)
  assert (c.tau, c.gamma, c.noise_repeat, c.init_alpha) == (
    0.01,
    0.99,
    16,
    0.01,
  )
  # The entropy of a Gaussian with standard deviation .15.
  entropy = 0.5 * math.log(2 * math.pi * math.e * 0.15**2)
  assert c.target_entropy == pytest.approx(entropy, abs=1e-5)
  assert (c.weight_decay, c.adam_b1, c.adam_b2) == (0, 0.9, 0.999)
  # At the last update, with the actor's and temperature's half as many.
  for rate, delay, last in (
    (c.critic_lr, 1, 1.5e-4),
    (c.actor_lr, 2, 2.25e-4),
    (c.alpha_lr, 2, 2.25e-4),
  ):
    schedule = optimizers.learning_rate(c, rate, delay)
    assert callable(schedule) and schedule(0) == pytest.approx(3e-4)
    assert schedule(990_000 // delay) == pytest.approx(last)


def test_flashsac_many_makes_two_updates_a_vector_step():
  c = from_preset('flashsac_many')
  assert (c.num_envs, c.batch_size, c.warmup_iterations) == (1024, 2048, 98)
  assert (c.updates_per_iteration, c.update_every) == (2, 1)
  assert c.lr_decay_steps == c.env_steps == c.iterations * 1024
  assert c.replay_rows >= 10_000_000 - 1024
  intervals = c.log_every, c.eval_every, c.checkpoint_every
  assert not any(every % 1024 for every in intervals)


@pytest.mark.parametrize(
  ('obs', 'actions', 'millions'), [(223, 38, 2.60), (67, 21, 2.48)]
)
def test_flashsac_has_the_parameters_of_its_paper(obs, actions, millions):
  """On dog and humanoid, both critics and the actor."""
  agent = Agent(from_preset('flashsac'), obs, actions)
  state = jax.eval_shape(agent.init, jax.random.key(0))
  params = state.actor.network.params, state.critic.network.params
  count = sum(x.size for x in jax.tree.leaves(params))
  assert count / 1e6 == pytest.approx(millions, abs=0.005)


def test_quickstart_is_small_on_a_cpu_only():
  assert from_preset('quickstart').critic_width == 128
  on_gpu = from_preset('quickstart', accelerator=True)
  assert on_gpu.critic_width == 512 and on_gpu.critic_lr == 3e-4
  assert on_gpu.env_steps == from_preset('quickstart').env_steps


def test_assignments_are_typed():
  parsed = config_lib.parse_assignments(
    [
      'warmup=1e3',
      'critic_lr=1',
      'target_network=off',
      'initializer=lecun_normal',
      'reset_at=15001,5e4',
    ]
  )
  assert parsed == {
    'warmup': 1000,
    'critic_lr': 1.0,
    'target_network': False,
    'initializer': 'lecun_normal',
    'reset_at': (15001, 50000),
  }
  assert [type(v) for v in parsed.values()] == [int, float, bool, str, tuple]
  assert config_lib.parse_assignments(['reset_at=']) == {'reset_at': ()}


# Values of each type that a field has. An entry of `vary` is text without `;`.
VALUES = {
  bool: st.booleans(),
  int: st.integers(),
  float: st.floats(allow_nan=False, allow_infinity=False),
  parsing.Number: st.integers()
  | st.floats(allow_nan=False, allow_infinity=False).filter(
    lambda x: not x.is_integer()
  ),
  str: st.text(),
  tuple[int, ...]: st.lists(st.integers()).map(tuple),
  tuple[str, ...]: st.lists(
    st.text(st.characters(exclude_characters=';'), min_size=1)
    .map(str.strip)
    .filter(bool)
  ).map(tuple),
}


@pytest.mark.parametrize('name', config_lib.FIELDS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=30)
def test_text_of_a_field_is_read_as_the_same_value(name, data):
  kind = config_lib.TYPES[name]
  value = data.draw(VALUES[kind])
  again = parsing.typed(name, parsing.to_text(value), kind)
  assert again == value and type(again) is type(value)


def ends(name):
  """The smallest and the largest value of a field of numbers, just outside."""
  rules, kind = config_lib.FIELDS[name].metadata, config_lib.TYPES[name]
  step = 1 if kind in (int, tuple[int, ...]) else 1e-9
  outside = [
    rules['above'],
    rules['below'],
    rules['least'] - step * max(1, abs(rules['least'])),
    rules['most'] + step * max(1, abs(rules['most'])),
  ]
  outside = [value for value in outside if math.isfinite(value)]
  return [(value,) if kind == tuple[int, ...] else value for value in outside]


@pytest.mark.parametrize(
  'name',
  [
    name
    for name, kind in config_lib.TYPES.items()
    if kind in (int, float, parsing.Number, tuple[int, ...])
  ],
)
def test_every_number_is_bounded_on_both_sides(name):
  outside = ends(name)
  assert len(outside) >= 2
  for value in outside:
    with pytest.raises(ConfigError, match=rf'^{name}=.* must be '):
      from_preset('crossq_wn', **{name: value})


def test_several_fields_that_vary_survive_as_text():
  # Joined by commas they would be read as one entry.
  vary = ('gamma=0.97,0.99', 'tau=0.1')
  text = f'vary={parsing.to_text(vary)}'
  assert config_lib.parse_assignments([text]) == {'vary': vary}


@pytest.mark.parametrize(
  ('assignment', 'message'),
  [
    ('critic_widht=2', "did you mean 'critic_width'"),
    ('warmup=1.5', 'not of type int'),
    ('warmup=', 'not of type int'),
    ('gamma=nan', 'not of type float'),
    ('weight_norm=2', 'not of type bool'),
    ('gamma', 'key=value'),
    ('reset_at=5,x', 'not of type int'),
  ],
)
def test_wrong_assignments_are_refused(assignment, message):
  with pytest.raises(ConfigError, match=message):
    config_lib.parse_assignments([assignment])


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'gamma': 1.5}, 'gamma=1.5'),
    ({'utd': 0}, 'utd=0 must be at least 1e-09'),
    ({'normalization': 'bath'}, "did you mean 'batch'"),
    ({'log_std_min': 3.0}, 'log_std_min'),
    ({'num_envs': 8, 'replay_capacity': 10}, 'raise it to at least 16'),
    ({'critic_value': 'categorical'}, 'more .101 in XQC'),
    ({'optimism': True}, 'needs normalization=none or layer'),
    ({'atoms': 51}, 'a scalar critic has atoms=1'),
    (
      {'weight_norm': False, 'weight_norm_outputs': True},
      'needs weight_norm=true',
    ),
    (
      {'weight_norm': False, 'weight_norm_scales': True},
      'weight_norm_scales=true needs weight_norm=true',
    ),
    ({'bound_returns': True}, 'needs normalize_rewards=true'),
    ({'lr_schedule': 'cos'}, "did you mean 'cosine'"),
    ({'soft_l2': 1e-4}, 'set weight_norm=false'),
    ({'reset_every': 99, 'reset_at': (5,)}, 'set reset_every=0'),
    ({'reset_every': 9}, 'less than the 10 updates of one iteration'),
    ({'reset_at': (0, 5)}, 'at least 1 each'),
    ({'critic_with': 3}, "did you mean 'critic_width'"),
    ({'alpha_b1': 7.0}, 'alpha_b1=7.0 must be below 1'),
    ({'alpha_b1': -3.0}, 'alpha_b1=-3.0 must be at least 0'),
    ({'adam_b1': 1}, 'adam_b1=1.0 must be below 1'),  # Adam divides by 1 - b
    ({'adam_b2': 1.0}, 'adam_b2=1.0 must be below 1'),
    ({'adam_b1': 0.99999999}, 'adam_b1=0.99999999 must be below 1'),
    ({'bn_eps': 0.0}, 'bn_eps=0.0 must be above 0'),
    ({'log_std_max': 90.0}, 'log_std_max=90.0 must be at most 40'),
    ({'reset_at': (2**31,)}, 'at most 2,147,483,647 each'),
    ({'gamma': math.nan}, 'not of type float'),
    ({'warmup': 2.5}, 'not of type int'),
    ({'utd': math.inf}, 'not of type number'),
  ],
)
def test_wrong_values_are_refused(changes, message):
  with pytest.raises(ConfigError, match=message):
    from_preset('crossq_wn', **changes)


def test_unknown_preset_names_the_nearest():
  with pytest.raises(ConfigError, match="did you mean 'crossq_wn'"):
    from_preset('crosq_wn')


@pytest.mark.parametrize('preset', config_lib.PRESETS)
def test_round_trip_through_json(preset):
  config = from_preset(preset, seed=3)
  again = Config.from_dict(json.loads(json.dumps(config.to_dict())))
  assert again == config


def test_units():
  c = Config(num_envs=4, action_repeat=2, utd=3, warmup=10, env_steps=1001)
  assert c.steps_per_iteration == 8
  assert c.warmup_iterations == 3  # 10 decisions, rounded up to whole steps
  assert c.iterations == 126
  assert c.updates_at(3) == 0 and c.updates_at(5) == 2 * 12
