"""Rows with settings of their own are the rows of runs with these settings."""

import jax
import numpy as np
import pytest

from mjx_crossq import Agent, ConfigError, Runner, from_preset, vary
from mjx_crossq.config import VARYING
from mjx_crossq.learner.hyper import Hyper
from tests import rounding
from tests.learner.probes import Counter
from tests.learner.test_update import one
from tests.learner.test_variants import ACTION, BATCH, OBS, make_batch

SIZES = {
  'critic_width': 8,
  'actor_width': 6,
  'critic_layers': 1,
  'actor_layers': 1,
  'batch_size': BATCH,
  'initializer': 'lecun_normal',
  'matmul_precision': 'highest',
}
PRESETS = {
  'crossq_wn': {},
  'crossq': {},
  'sac': {},
  # With norm_relu Adam makes steps of rounding (test_variants).
  'xqc': {'block': 'relu_norm', 'atoms': 5, 'lr_decay_steps': 10_050},
  'bro': {'atoms': 5},
  # With projected scales only the heads' biases, which start at 0, decay.
  'flashsac': {
    'weight_norm_scales': False,
    'atoms': 5,
    'lr_decay_steps': 10_050,
  },
}
VALUES = {
  'critic_lr': 3e-3,
  'actor_lr': 2e-3,
  'alpha_lr': 7e-3,
  'gamma': 0.9,
  'tau': 0.3,
  'target_entropy': -0.8,
  'weight_decay': 0.2,
  'init_alpha': 0.3,
}


def updated(agent):
  """A new agent after two updates, and their metrics."""
  rng = np.random.default_rng(0)
  pair = [make_batch(rng) for _ in range(2)]
  batches = jax.tree.map(lambda *x: np.stack(x), *pair)

  def update(state, inputs):
    return agent.update(state, *one(inputs), True)

  keys = jax.random.split(jax.random.key(1), 2)
  return jax.lax.scan(update, agent.init(jax.random.key(3)), (batches, keys))


def test_every_field_that_may_vary_is_tested():
  assert set(VALUES) == set(VARYING) == set(Hyper._fields)


def varying(preset):
  """A configuration, the fields that act in it, and a function of their rows.

  The function gives what two updates make of rows with other values.
  """
  config = from_preset(preset, **SIZES, **PRESETS[preset])
  fields = [f for f in VARYING if f != 'tau' or config.target_network]
  agent = Agent(config, OBS, ACTION)
  base = {name: getattr(config, name) for name in fields}

  def rows(*changes):
    rows = [{**base, **changed} for changed in changes]
    hyper = {n: np.array([r[n] for r in rows], np.float32) for n in fields}
    varied = jax.jit(jax.vmap(lambda h: updated(agent.with_hyper(h))))(hyper)
    return [jax.tree.map(lambda x, i=i: x[i], varied) for i in range(len(rows))]

  return config, fields, rows


def assert_alone(row, config, name):
  """A row is what two updates make of an agent with its configuration."""
  alone = jax.jit(lambda: updated(Agent(config, OBS, ACTION)))()
  # Rounding: 1e-6 as a rule; a field that does not act is off by over 1e-4.
  gap = rounding.distance(row, alone)
  assert gap < 5e-5, (name, gap)


def test_fields_act_together_as_in_a_run_of_their_own():
  config, fields, rows = varying('crossq_wn')
  assert set(fields) == set(VALUES)
  first, changed, *each = rows({}, VALUES, *({n: VALUES[n]} for n in fields))
  assert_alone(changed, config.replace(**VALUES), 'all')
  for name, row in zip(fields, each, strict=True):
    assert rounding.distance(row, first) > 1e-4, name


@pytest.mark.slow
@pytest.mark.parametrize('preset', PRESETS)
def test_each_field_acts_as_in_a_run_of_its_own(preset):
  config, fields, rows = varying(preset)
  first, *each = rows({}, *({name: VALUES[name]} for name in fields))
  assert_alone(first, config, None)
  for name, row in zip(fields, each, strict=True):
    assert_alone(row, config.replace(**{name: VALUES[name]}), name)
    assert rounding.distance(row, first) > 1e-4, name


ACTOR = ('actor_lr=1e-4,3e-4', 'gamma=0.97,0.99')


def test_variants_are_the_cross_product():
  config = from_preset('crossq_wn', vary=ACTOR, num_seeds=2, seed=7)
  assert config.vary == ('actor_lr=0.0001,0.0003', 'gamma=0.97,0.99')
  names = [variant.name for variant in vary.variants(config)]
  assert names == [
    'actor_lr=0.0001+gamma=0.97',
    'actor_lr=0.0001+gamma=0.99',
    'actor_lr=0.0003+gamma=0.97',
    'actor_lr=0.0003+gamma=0.99',
  ]
  own = [variant.config for variant in vary.variants(config)]
  assert own[2] == config.replace(vary=(), actor_lr=3e-4, gamma=0.97)
  assert [seed for _, seed in vary.rows(config)] == 4 * [7, 8]
  hyper = vary.hyper(config)
  np.testing.assert_allclose(hyper['actor_lr'], np.repeat([1e-4, 3e-4], 4))
  np.testing.assert_allclose(
    hyper['gamma'], np.tile([0.97, 0.97, 0.99, 0.99], 2)
  )
  again = type(config).from_dict(config.to_dict())
  assert again == config
  assert vary.hyper(config.replace(vary=())) == {}


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'vary': ('actor_lr',)}, 'field=value'),
    (
      {'vary': ('utd=1,2',)},
      "'utd' cannot vary; these can: critic_lr, actor_lr",
    ),
    ({'vary': ('tau=0.1', 'tau=0.2')}, 'tau varies twice'),
    ({'vary': ('tau=fast',)}, 'not of type float'),
    ({'vary': ('tau=',)}, 'has no value'),
    ({'vary': ('tau=0.1,1e-1',)}, 'a value twice'),
    ({'vary': ('gamma=0.9,1.5',)}, 'gamma=1.5 must be at most 1'),
    ({'vary': ('actor_lr=1e-3,-1',)}, 'actor_lr=-1.0 must be at least 0'),
    ({'vary': ('tau=0.1',), 'target_network': False}, 'target_network=true'),
    ({'vary': ('tau=0.1,0.2',), 'num_seeds': 5001}, '10,002 rows'),
    ({'vary': (f'tau={",".join(f"{i / 999}" for i in range(201))}',)}, '200'),
    ({'pbt_every': 1000}, 'needs --vary'),
    ({'pbt_every': 1000, 'vary': ('tau=0.1,0.2,0.3',)}, '4 rows or more'),
    (
      {'pbt_every': 1000, 'vary': ('init_alpha=1,2',), 'num_seeds': 2},
      'how an agent begins',
    ),
  ],
)
def test_bad_input_is_refused(changes, message):
  with pytest.raises(ConfigError, match=message):
    from_preset('crossq_wn', **changes)


def test_rows_are_the_runs_of_their_values_in_the_loop():
  config = from_preset(
    'crossq_wn',
    task='counter',
    action_repeat=2,
    utd=3,
    warmup=20,
    critic_width=16,
    actor_width=16,
    batch_size=16,
    replay_capacity=200,
    matmul_precision='highest',
    initializer='lecun_normal',
    vary=('critic_lr=3e-4,1e-3', 'tau=0.005,0.05'),
  )
  env, stop = Counter(10), 37
  assert config.updates_at(stop) == 51
  runner = Runner(config, env)
  many, _ = runner.train_chunk(runner.init(), stop)
  assert runner.traces['train_chunk'] == 1
  own = Runner(vary.variants(config)[3].config, env)
  one, _ = own.train_chunk(own.init(), stop)
  bound = rounding.bound(own, stop)
  for part in ('agent', 'replay'):
    rows, alone = getattr(many, part), getattr(one, part)
    alone = jax.tree.map(lambda x: x[0], alone)
    gap = [
      rounding.distance(jax.tree.map(lambda x, i=i: x[i], rows), alone)
      for i in range(4)
    ]
    assert gap[3] < bound, (part, gap)
    if part == 'agent':
      assert min(gap[:3]) > 2 * bound, gap
