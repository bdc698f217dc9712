"""Groups of environments whose clocks differ, beside a simulation in Python."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner, datasets, from_preset
from mjx_crossq import config as config_lib
from mjx_crossq.device.rollout import Rollout
from mjx_crossq.host import pbt, records
from mjx_crossq.host import run as loop
from tests.learner.probes import Counter
from tests.reliability import runs

LIMIT, REPEAT = 24, 2
DECISIONS = LIMIT // REPEAT


class Mortal(Counter):
  """Ends after 3 to 32 steps, by its start; the physics of some break then."""

  name = 'counter'

  def __init__(self, dies, breaks=False):
    super().__init__(LIMIT)
    self.terminates, self._breaks = dies, breaks

  def transition(self, hidden, action):
    hidden = hidden + jnp.array([0.0, 1.0])
    reward, over = hidden[1], hidden[1] >= life(hidden[0])
    if self._breaks:
      over &= hidden[0] > 0.5
      hidden = jnp.where(over, jnp.nan, hidden)
    return hidden, reward, over & self.terminates


def life(start):
  return 3 + (30 * start).astype(np.int32)


def key(iteration):
  return jax.random.fold_in(jax.random.key(7), iteration)


def starts(iteration, num_envs):
  """What the environments would begin with in an iteration."""
  drawn = jax.vmap(jax.random.uniform)(
    jax.random.split(key(iteration), num_envs)
  )
  return np.asarray(drawn)


def simulated(num_envs, groups, dies, breaks, iterations):
  """An account of each environment by itself, a list entry for each iteration.

  Yields:
    Which environments began an episode, and after the decision the env steps of
    each one's episode (0 if it is over) and the return of its last whole one.
  """
  start, steps = np.zeros(num_envs), [0] * num_envs
  last = [math.nan] * num_envs
  clock = [
    env * groups // num_envs * DECISIONS // groups for env in range(num_envs)
  ]
  shifted = [count == 0 for count in clock]
  for iteration in range(iterations):
    began = [count == 0 for count in steps]
    start = np.where(began, starts(iteration, num_envs), start)
    for env in range(num_envs):
      ends = life(start[env])
      dead = (dies or (breaks and start[env] > 0.5)) and (
        steps[env] + REPEAT >= ends
      )
      broken = dead and breaks
      steps[env] += REPEAT
      total = min(steps[env], ends) if dead else steps[env]
      clock[env] += 1
      on_time = clock[env] == DECISIONS
      clock[env] %= DECISIONS
      # Own clocks are shifted by one cut; the others always end by theirs.
      cut = on_time and not (dies and shifted[env])
      shifted[env] |= on_time
      whole = steps[env] == LIMIT or (dead and dies)
      if whole and not broken:
        last[env] = total * (total + 1) / 2
      if whole or cut or broken:
        steps[env] = 0
    yield began, list(steps), list(last)


@pytest.mark.parametrize(
  ('num_envs', 'groups', 'dies', 'breaks'),
  [
    (8, 4, False, False),
    (7, 3, False, True),
    (5, 1, False, True),
    (9, 4, True, False),
    (3, 1, True, False),
  ],
)
def test_which_begin_and_what_counts(num_envs, groups, dies, breaks):
  rollout = Rollout(Mortal(dies, breaks), num_envs, REPEAT, groups)
  begin, step = jax.jit(rollout.begin), jax.jit(rollout.step)
  state = rollout.init()
  account = simulated(num_envs, groups, dies, breaks, 4 * DECISIONS)
  start = np.zeros(num_envs)
  for i, (began, steps, last) in enumerate(account):
    before = state.env.obs
    state = begin(state, key(i))
    obs = np.where(np.array(began)[:, None], 0, before)
    start = np.where(began, starts(i, num_envs), start)
    np.testing.assert_array_equal(state.env.obs[:, 0], np.float32(start))
    np.testing.assert_array_equal(state.env.obs[:, 1], obs[:, 1])
    action = jnp.zeros((num_envs, 1))
    state, transition, *_ = step(state, action, jnp.int32(i))
    np.testing.assert_array_equal(state.episode_length, steps)
    np.testing.assert_array_equal(state.last_return, last)
    if not dies:  # a time limit is no end
      np.testing.assert_array_equal(transition.mask, 1)
  assert np.isfinite(last).any()


def test_the_clocks_are_spread_evenly():
  rollout = Rollout(Counter(1000), 256, 2, 16)
  offsets = rollout.offsets
  np.testing.assert_array_equal(np.unique(offsets, return_counts=True)[1], 16)
  assert set(np.diff(np.unique(offsets))) <= {62, 64}  # 1000 / 16, whole
  assert not np.any(offsets % 2)
  # There are no more groups than decisions.
  assert Rollout(Counter(10), 256, 5, 16).groups == 2


class Watched(Counter):
  """Tells of each reset that is computed how many rows it has."""

  def __init__(self, seen, **of_counter):
    super().__init__(LIMIT, **of_counter)
    self._seen = seen

  def initial(self, rng):
    def tell(bits):
      self._seen.append(math.prod(bits.shape[:-1]))
      return bits

    bits = jax.random.key_data(rng)
    bits = jax.pure_callback(tell, bits, bits, vmap_method='expand_dims')
    return super().initial(jax.random.wrap_key_data(bits))


@pytest.mark.parametrize('groups', [1, 4])
def test_a_reset_is_computed_for_its_group_alone(groups):
  """An episode has as many resets as groups, of all environments together."""
  seen = []
  rollout = Rollout(Watched(seen), 8, REPEAT, groups)

  def decision(state, seed, iteration):
    state = rollout.begin(state, jax.random.fold_in(key(iteration), seed))
    return rollout.step(state, jnp.zeros((8, 1)), iteration)[0]

  seeds = jax.jit(jax.vmap(decision, in_axes=(0, 0, None)))
  state = jax.tree.map(lambda x: jnp.stack([x] * 3), rollout.init())
  counts = []
  for iteration in range(3 * DECISIONS):
    state = jax.block_until_ready(seeds(state, jnp.arange(3), iteration))
    counts.append(len(seen))
  # At first all begin; then each group when its time is up.
  assert set(seen) == {3 * 8 // groups}
  assert counts[0] == groups
  expected = groups
  for iteration in range(1, 3 * DECISIONS):
    expected += any(
      (iteration + g * DECISIONS // groups) % DECISIONS == 0
      for g in range(groups)
    )
    assert counts[iteration] == expected


def test_no_reset_is_computed_while_no_environment_is_over():
  seen = []
  rollout = Rollout(Watched(seen, ends_at=7), 3, 1)
  state, step = rollout.init(), jax.jit(rollout.step)
  begin = jax.jit(rollout.begin)
  for iteration in range(21):
    state = begin(state, key(iteration))
    state, *_ = step(state, jnp.zeros((3, 1)), jnp.int32(iteration))
  jax.block_until_ready(state)
  assert seen == [3] * 3


# ------------------------------------------------------------------- a run

STAGGERED = {
  'task': 'tests.reliability.runs:env',
  'num_envs': 6,
  'stagger': 3,
  'normalize_rewards': True,
  'replay_capacity': 600,
  'env_steps': 60 * 12,
  'log_every': 60,
  'eval_every': 0,
  'checkpoint_every': 0,
}


@pytest.fixture(scope='module')
def workdirs(tmp_path_factory):
  """A run, the same with a stop in its first episodes, and their states."""
  folder = tmp_path_factory.mktemp('staggered')

  def train(name, **more):
    return loop.train(
      runs.config(**STAGGERED | more),
      runs.env(),
      workdir=folder / name,
      resume=True,
      report=lambda _: None,
    )

  whole = train('whole')
  train('cut', env_steps=36)
  return folder, whole, train('cut')


def test_a_resumed_run_is_the_undisturbed_one(workdirs):
  folder, whole, again = workdirs
  runs.assert_same_bits(whole.state, again.state)
  # The stop has a record of its own, and is within the interval of the next.
  records_ = runs.records(folder / 'whole')[2:]
  assert records_ == runs.records(folder / 'cut')[-len(records_) :]
  assert again.runner.traces['train_chunk'] == 1
  # Five decisions an episode, and clocks that are 0, 1 and 3 ahead.
  length = np.asarray(whole.state.rollout.episode_length)
  np.testing.assert_array_equal(length, [[0, 0, 2, 2, 6, 6]] * 2)


def test_returns_of_cut_episodes_are_not_reported(workdirs):
  folder, *_ = workdirs
  found = {
    record['env_step']: record['train/episode_return']
    for record in runs.records(folder / 'whole')
  }
  assert set(found.values()) == {55.0}


def test_returns_are_those_of_environments_that_have_any():
  returns = np.array([[1, np.nan, 4], [np.nan] * 3], np.float32)
  mean = records.mean_returns(returns)
  assert mean.dtype == np.float32
  np.testing.assert_array_equal(mean, [2.5, np.nan])


def test_an_exported_replay_has_the_episodes_of_each_environment(workdirs):
  folder, *_ = workdirs
  with np.load(datasets.export(folder / 'whole')) as stored:
    steps, begins = stored['obs'][:, 1], stored['episode_start']
  first = steps.reshape(6, -1)[:, 0]
  assert set(first) == {0, 2, 6}
  oldest = np.arange(len(steps)) % (len(steps) // 6) == 0
  np.testing.assert_array_equal(begins, (steps == 0) | oldest)


def test_a_population_waits_for_a_whole_episode_of_each():
  config = runs.config(
    num_envs=4,
    stagger=2,
    warmup=12,
    pbt_every=8,
    vary=('actor_lr=1e-3,1e-4',),
  )
  runner = Runner(config, runs.env())
  population = pbt.Population(runner, None, print)
  # The warm-up is 3 iterations. An episode has 5, and begins in 5, 10, ... or
  # in 3, 8, ...: those that begin in 5 and in 3 have ended after 10.
  assert [i for i in range(14) if population.due(i)] == [10, 11, 12, 13]


# ----------------------------------------------------------- the setting


def test_the_number_of_groups():
  def groups(**changes):
    return from_preset('crossq_wn', **changes).groups

  assert [groups(num_envs=n) for n in (1, 15, 16, 17, 1024)] == [1, 1] + 3 * [
    16
  ]
  assert groups(num_envs=64, stagger=0) == groups(num_envs=64, stagger=1) == 1
  assert groups(num_envs=4, stagger=4) == 4


def test_wrong_numbers_are_refused():
  with pytest.raises(ConfigError, match='stagger=-2 must be at least -1'):
    from_preset('crossq_wn', stagger=-2)
  with pytest.raises(ConfigError, match=r'stagger=3 groups .* num_envs=2 '):
    from_preset('crossq_wn', stagger=3, num_envs=2)


def test_runs_of_before_stay_as_they_were(tmp_path):
  for num_envs, stagger in ((1, -1), (16, 0)):
    config = from_preset('crossq_wn', num_envs=num_envs)
    record = config.to_dict()
    del record['stagger']
    path = tmp_path / 'config.json'
    path.write_text(json.dumps({'config': record, 'versions': {}}))
    loaded, _ = config_lib.load(path)
    assert loaded == config.replace(stagger=stagger)
    assert loaded.groups == 1
