"""Fewer updates than decisions: which iterations update, counted exactly."""

import functools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner, from_preset
from mjx_crossq.device.trainer import Trainer
from mjx_crossq.host import run as loop
from mjx_crossq.launch.jobs import estimate
from mjx_crossq.learner import optimizers
from tests.learner.probes import Counter
from tests.learner.test_trainer import adam_counts
from tests.reliability import runs

SMALL = {
  'critic_width': 8,
  'actor_width': 8,
  'batch_size': 8,
  'eval_episodes': 1,
  'replay_capacity': 4_000,
}
# num_envs, utd as it is given and as it is meant, policy delay, warm-up, resets
CASES = {
  'whole': (1, 10, Fraction(10), 3, 20, {'reset_every': 170}),
  'whole of a fraction': (128, 0.0625, Fraction(1, 16), 3, 300, {}),
  'a rounded fraction': (10, 0.1, Fraction(1, 10), 1, 5, {'reset_every': 77}),
  'a third of 9': (9, 1 / 3, Fraction(1, 3), 2, 10, {'reset_every': 40}),
  'every 4th': (1, 0.25, Fraction(1, 4), 3, 7, {'reset_every': 7}),
  'every 7th': (1, 1 / 7, Fraction(1, 7), 5, 1, {'reset_at': (90, 91, 2001)}),
  'every 3rd of 4': (4, 1 / 12, Fraction(1, 12), 1, 9, {'reset_every': 1}),
  'in the warm-up': (2, 0.05, Fraction(1, 20), 2, 400, {'reset_at': (8, 900)}),
}


def count(num_envs, utd, delay, warmup, resets, iterations):
  """An account in integers: of each iteration, what happens in it.

  Yields:
    Updates of this iteration, whether a reset comes before them, the agent's
    own updates and its actor's after them, and all updates of the run.
  """
  learning = total = own = done = 0
  for iteration in range(iterations):
    before, steps = total, 2 * num_envs * (iteration + 1)
    if iteration * num_envs >= warmup:
      learning += 1
      total = learning * num_envs * utd.numerator // utd.denominator
    due = sum(steps >= at for at in resets.get('reset_at', ()))
    due += before // resets.get('reset_every', 10**9)
    reset = learning > 0 and due > done
    done, own = due, (0 if reset else own) + total - before
    yield total - before, reset, own, own // delay, total


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request):
  num_envs, given, utd, delay, warmup, resets = CASES[request.param]
  config = from_preset(
    'crossq_wn',
    **SMALL,
    **resets,
    num_envs=num_envs,
    utd=given,
    policy_delay=delay,
    warmup=warmup,
    env_steps=10**7,
  )
  return config, functools.partial(count, num_envs, utd, delay, warmup, resets)


def test_thousands_of_iterations_are_those_of_an_account_in_integers(case):
  config, account = case
  expected = list(account(5_000))
  trainer = Trainer(config, Counter(10))

  def schedule(iteration):
    actor = trainer.updates(jax.random.key(0), iteration)[1]
    updating = trainer.updating(iteration)
    return updating, trainer.resets.due(iteration), updating & actor.T

  updating, resets, actors = jax.jit(jax.vmap(schedule))(jnp.arange(5_000))
  updates = config.updates_per_iteration * np.asarray(updating)
  assert updates.tolist() == [row[0] for row in expected]
  assert resets.tolist() == [row[1] for row in expected]
  own = actor_updates = 0
  for row, new, actor in zip(expected, resets, np.asarray(actors), strict=True):
    own, actor_updates = (0, 0) if new else (own, actor_updates)
    own, actor_updates = own + row[0], actor_updates + actor.sum()
    assert (own, actor_updates) == row[2:4]
  totals = [config.updates_at(iteration) for iteration in range(1, 5_001)]
  assert totals == [row[4] for row in expected]
  done = config.steps_per_iteration * 1_234
  assert estimate.updates(
    config.replace(env_steps=done + config.steps_per_iteration * 777), done
  ) == (expected[2_010][4] - expected[1_233][4])


@pytest.fixture(scope='module')
def quarter():
  """Resets between two updates: the 7th update is in iteration 7 + 27."""
  config = from_preset(
    'crossq_wn', **SMALL, num_seeds=2, utd=0.25, warmup=7, reset_every=7
  )
  return Runner(config, Counter(10))


def test_optimisers_and_metrics_count_the_same(quarter):
  account = list(count(1, Fraction(1, 4), 3, 7, {'reset_every': 7}, 70))
  state, before = quarter.init(), 0
  for stop in (1, 8, 10, 11, 33, 35, 36, 38, 39, 60, 70):
    state, sums = quarter.train_chunk(state, stop)
    *_, own, actor, total = account[stop - 1]
    np.testing.assert_array_equal(sums['updates'], total - before)
    before = total
    agent = state.agent
    assert set(adam_counts(agent.critic.opt_state).ravel()) == {own}
    for opt_state in (agent.actor.opt_state, agent.actor.alpha_opt_state):
      assert set(adam_counts(opt_state).ravel()) == {actor}
  assert quarter.traces['train_chunk'] == 1


def agent_of(state):
  return jax.device_get(state.agent)


def test_nothing_changes_in_iterations_without_updates(quarter):
  state, _ = quarter.train_chunk(quarter.init(), 11)
  before = agent_of(state)
  state, sums = quarter.train_chunk(state, 14)
  runs.assert_same_bits(agent_of(state), before)
  assert not any(np.any(np.asarray(x)) for x in sums.values())
  state, _ = quarter.train_chunk(state, 15)
  assert not np.array_equal(
    *(jax.tree.leaves(x.critic.network)[0] for x in (state.agent, before))
  )


def test_a_reset_between_two_updates_leaves_a_frozen_seed_alone(quarter):
  """The 7th update is that of iteration 34, and the reset is in 35."""
  state, _ = quarter.train_chunk(quarter.init(), 35)
  before = agent_of(state)
  frozen = state.replace(frozen=jnp.array([True, False]))
  state, sums = quarter.train_chunk(frozen, 36)
  after = agent_of(state)
  first, second = (
    [jax.tree.map(lambda x, i=i: x[i], t) for t in (before, after)]
    for i in range(2)
  )
  runs.assert_same_bits(*first)
  assert adam_counts(second[0].critic.opt_state).max() == 7
  assert adam_counts(second[1].critic.opt_state).max() == 0
  np.testing.assert_array_equal(sums['updates'], 0)


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes',
  [
    {'num_envs': 128, 'utd': 0.0625, 'replay_capacity': 5_120, 'warmup': 300},
    {'num_envs': 1, 'utd': 0.25, 'reset_every': 3},
  ],
  ids=['8 updates an iteration', 'every 4th iteration'],
)
def test_a_resumed_run_is_the_undisturbed_one(tmp_path, changes):
  steps = 2 * changes['num_envs']
  changes = {
    **changes,
    'env_steps': 60 * steps,
    'log_every': 10 * steps,
    'eval_every': 0,
    'checkpoint_every': 0,
  }

  def train(name, **more):
    return loop.train(
      runs.config(**changes | more),
      runs.env(),
      workdir=tmp_path / name,
      resume=True,
      report=lambda _: None,
    )

  whole = train('whole')
  assert train('cut', env_steps=37 * steps).runner.traces['train_chunk'] == 1
  again = train('cut')
  runs.assert_same_bits(whole.state, again.state)
  records = runs.records(tmp_path / 'whole')
  assert records[-2:] == runs.records(tmp_path / 'cut')[-2:]
  utd, warmup = Fraction(str(changes['utd'])), whole.config.warmup
  for record in records:
    learning = max(0, record['decision'] // changes['num_envs'] - -(
      -warmup // changes['num_envs']
    ))  # fmt: skip
    assert record['update'] == int(learning * changes['num_envs'] * utd)


def test_the_learning_rate_ends_with_its_env_steps():
  config = from_preset(
    'crossq_wn', utd=0.25, warmup=100, lr_decay_steps=1_000, lr_final=0.1
  )
  # 500 decisions, 400 of them after the warm-up.
  critic = optimizers.learning_rate(config, 1.0, 1)
  actor = optimizers.learning_rate(config, 1.0, 3)
  assert callable(critic) and callable(actor)
  assert critic(99) > 0.1 and critic(100) == pytest.approx(0.1)
  assert actor(33) > 0.1 and actor(34) == pytest.approx(0.1)


@pytest.mark.parametrize(
  ('num_envs', 'utd', 'near'),
  [
    (1, 0.3, 'utd=0.25 or utd=0.3333333333333333'),
    (1, 2.5, 'utd=2 or utd=3'),
    (1, 0.7, 'utd=0.5 or utd=1'),
    (128, 0.06, 'utd=0.0546875 or utd=0.0625'),
    (4, 1.3, 'utd=1.25 or utd=1.5'),
    (4, 0.2, 'utd=0.125 or utd=0.25'),
  ],
)
def test_what_is_neither_whole_nor_every_so_many_is_refused(
  num_envs, utd, near
):
  with pytest.raises(ConfigError, match=rf'utd={utd} is .*: set {near}$'):
    from_preset('crossq_wn', num_envs=num_envs, utd=utd)
  for text in near.split(' or '):
    value = float(text.removeprefix('utd='))
    from_preset('crossq_wn', num_envs=num_envs, utd=value)


def test_a_whole_number_is_written_as_before():
  for given in (4, 4.0, '4', '4.0'):
    config = from_preset('crossq_wn', utd=given)
    assert repr(config.to_dict()['utd']) == '4'
  assert repr(from_preset('crossq_wn', utd='0.250').utd) == '0.25'


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'env_steps': 2**31}, 'env_steps=.* raise num_envs'),
    ({'env_steps': 10**9, 'reset_every': 99}, 'env_steps=.* use reset_at'),
    ({'lr_decay_steps': 10**9}, 'lr_decay_steps=.* lower it'),
    ({'policy_delay': 10_001}, 'policy_delay=.* at most 10,000'),
    (
      {'env_steps': 10**8, 'log_every': 3_355_444},
      'log_every=.* 16,777,216 updates .*; set it to 3355442 or less',
    ),
    (
      {'env_steps': 10**9, 'log_every': 134_217_736, 'utd': 0.25},
      'set it to 134217728 or less',
    ),
  ],
)
def test_what_the_counters_cannot_hold_is_refused(changes, message):
  rare = {'eval_every': 0, 'checkpoint_every': 0}
  with pytest.raises(ConfigError, match=message):
    from_preset('crossq_wn', **rare | changes)
  # The host logs at every evaluation too.
  if 'log_every' in changes:
    from_preset('crossq_wn', **changes)


def test_ten_billion_env_steps_of_many_environments():
  config = from_preset(
    'crossq_wn', num_envs=1024, utd=2 / 1024, env_steps=10**10, num_seeds=2
  )
  assert config.updates_at(config.iterations) == 2 * (4_882_813 - 5)
  runner = Runner(config.replace(**SMALL), Counter(10))
  keys = {
    np.asarray(jax.random.key_data(runner.reset_keys(step))).tobytes()
    for step in (7, 2**31 + 7, 2**32 + 7, 2**33 + 7, 2**32, 1)
  }
  assert len(keys) == 6
