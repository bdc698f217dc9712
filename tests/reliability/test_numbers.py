"""Numbers that are not finite, in one environment or one seed's learner."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner
from mjx_crossq.device import faults
from mjx_crossq.device.replay import Replay
from mjx_crossq.host import dumps
from mjx_crossq.host import run as loop
from tests.learner.probes import Counter
from tests.reliability import runs

SEED, ENV = 1, 0  # the place of the fault
AT = 14  # its iteration: learning since 4, in the second episode
STOP = 20


class Breaking(Counter):
  """Breaks in one episode: in its fourth step, if it began at `start`.

  `physics`: the position becomes NaN. Otherwise the reward becomes so large
  that its square is not finite; that breaks the learner alone.
  """

  name = 'counter'

  def __init__(self, start, physics):
    super().__init__(10)
    self._start, self._physics = start, physics

  def transition(self, hidden, action):
    hidden, reward, done = super().transition(hidden, action)
    breaks = (jnp.abs(hidden[0] - self._start) < 1e-7) & (hidden[1] == 4)
    if self._physics:
      return jnp.where(breaks, jnp.nan, hidden), reward, done
    return hidden, jnp.where(breaks, 3e38, reward), done


def config(**changes):
  settings = {'num_seeds': 3, 'action_repeat': 1, 'replay_capacity': 200}
  # What the huge reward makes first, infinite or NaN, depends on it.
  settings['init_alpha'] = 1.0
  return runs.config(**settings | changes)


def played(env, stops=(STOP,)):
  runner = Runner(config(), env)
  state, sums = runner.init(), None
  states = []
  for stop in stops:
    while int(state.iteration) < stop:
      state, sums = runner.train_chunk(state, stop, sums)
    states.append(jax.device_get(state))
  return states, jax.device_get(sums)


def seeds(tree, *chosen):
  def choose(x):
    return np.asarray(x)[np.array(chosen)]

  return jax.tree.map(choose, (tree.agent, tree.rollout, tree.replay))


@pytest.fixture(scope='module')
def healthy():
  """The run without the fault, before its iteration and at the end.

  No position is -7. (A number that the program has elsewhere too, such as -1,
  may change how XLA groups its operations, and with that the last bits.)
  """
  return played(Breaking(-7.0, True), (AT - 1, STOP))


@pytest.fixture(scope='module')
def start(healthy):
  (before, _), _ = healthy
  return float(before.rollout.env.obs[SEED, ENV, 0])


def test_broken_physics_start_a_new_episode(healthy, start):
  (_, clean), clean_sums = healthy
  (broken,), sums = played(Breaking(start, True))
  np.testing.assert_array_equal(clean_sums['env_faults'], 0)
  np.testing.assert_array_equal(sums['env_faults'], [0, 1, 0])
  assert not broken.frozen.any()
  # The other seeds have the same bits.
  runs.assert_same_bits(seeds(broken, 0, 2), seeds(clean, 0, 2))
  # The other environment goes on; the broken one begins anew.
  clean_env, env = clean.rollout.env.obs[SEED], broken.rollout.env.obs[SEED]
  assert env[1, 0] == clean_env[1, 0]
  assert env[0, 0] != np.float32(start)
  assert np.isfinite(env).all()
  # Iteration 13 broke, so six steps were taken since, and the episodes of
  # both ended by the clock; the return of the shorter one does not count.
  np.testing.assert_array_equal(env[:, 1], [6, 10])
  np.testing.assert_array_equal(broken.rollout.last_return[SEED], [55, 55])
  # Nothing of it was stored: the row repeats the decision before.
  rows = broken.replay[SEED].reshape(-1, 2, broken.replay.shape[-1])
  assert np.isfinite(rows).all()
  np.testing.assert_array_equal(rows[AT - 1, ENV], rows[AT - 2, ENV])
  assert not np.array_equal(rows[AT - 1, 1], rows[AT - 2, 1])


def test_the_first_decision_may_break_too():
  replay = Replay(8, 2, 2, 1)
  buffer = replay.init()
  zeros = jax.tree.map(jnp.zeros_like, replay.previous(buffer, jnp.int32(0)))
  new = zeros.replace(
    obs=jnp.array([[1.0, 2.0], [3.0, 4.0]]),
    next_obs=jnp.full((2, 2), jnp.nan),
    reward=jnp.array([5.0, 6.0]),
  )
  replaced = faults.replace_broken(
    new, zeros, jnp.array([False, True]), iteration=jnp.int32(0)
  )
  np.testing.assert_array_equal(replaced.obs, new.obs)
  np.testing.assert_array_equal(replaced.next_obs[0], new.obs[0])
  np.testing.assert_array_equal(replaced.reward, [0, 6])
  np.testing.assert_array_equal(replaced.mask, [1, 0])


@pytest.mark.parametrize('value', [jnp.nan, jnp.inf])
@pytest.mark.parametrize('name', ['a', 'b', 'c', 'small', 'scalar'])
def test_every_array_is_searched(name, value):
  tree = {
    **{'a': jnp.zeros((100, 100)), 'b': jnp.zeros((100, 100))},
    **{'c': jnp.zeros(9000), 'small': jnp.zeros((3, 4))},
    **{'scalar': jnp.float32(0), 'count': jnp.int32(7)},
  }
  assert faults.is_finite(tree)
  broken = tree[name].ravel().at[-1].set(value).reshape(tree[name].shape)
  assert not faults.is_finite(tree | {name: broken})
  assert faults.is_finite({'count': jnp.int32(7)})


def test_previous_transitions_are_those_of_the_last_add():
  replay = Replay(6, 2, 1, 1)
  buffer = replay.init()
  for index in range(5):  # beyond the end of the ring
    value = jnp.full(2, float(index))
    rows = replay.previous(buffer, jnp.int32(0)).replace(
      obs=value[:, None], reward=value + 0.5
    )
    buffer = replay.add(buffer, rows, jnp.int32(index))
    found = replay.previous(buffer, jnp.int32(index + 1))
    np.testing.assert_array_equal(found.obs[:, 0], value)
    np.testing.assert_array_equal(found.reward, value + 0.5)


@pytest.fixture(scope='module')
def dumped(start, tmp_path_factory):
  """A run whose seed 1 gets the large reward."""
  workdir = tmp_path_factory.mktemp('frozen') / 'run'
  lines = []
  result = loop.train(
    config(env_steps=2 * STOP, log_every=10, eval_every=0, checkpoint_every=0),
    Breaking(start, False),
    workdir=workdir,
    report=lines.append,
    debug_nans=True,
  )
  return workdir, result, lines


def test_a_broken_learner_freezes_its_seed_alone(dumped):
  (clean,), _ = played(Breaking(-7.0, False))
  _, result, _ = dumped
  state = jax.device_get(result.state)
  np.testing.assert_array_equal(state.frozen, [False, True, False])
  runs.assert_same_bits(seeds(state, 0, 2), seeds(clean, 0, 2))
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.agent))


def test_a_frozen_seed_is_reported_marked_and_dumped(dumped):
  workdir, result, lines = dumped
  warnings = [line for line in lines if line.startswith('warning')]
  assert len(warnings) == 1 and f'seed {SEED}: an update' in warnings[0]
  marks = [
    (r['seed'], r['env_step'], r['train/frozen']) for r in runs.records(workdir)
  ]
  froze = {step for seed, step, mark in marks if mark}
  assert froze and all(mark == 0 for seed, _, mark in marks if seed != SEED)
  assert all(mark for s, step, mark in marks if s == SEED and step in froze)
  (path,) = (workdir / 'faults').iterdir()
  assert str(path) in warnings[0]

  dump = dumps.load(path)
  assert dump.seed == SEED and dump.config == result.config
  # The state before the update is what the seed has kept.
  runs.assert_same_bits(
    dump.agent, jax.tree.map(lambda x: x[SEED], result.state.agent)
  )
  index, metrics = dump.replay()
  assert index is not None and len(metrics) == index + 1
  assert not np.isfinite(metrics[-1]['critic_loss'])
  assert np.max(dump.batches.reward[index]) == np.float32(3e38)


def test_debug_nans_says_what_became_infinite(dumped):
  _, _, lines = dumped
  (warning,) = [line for line in lines if line.startswith('warning')]
  assert 'operation: no NaN; infinite: ' in warning
  assert 'critic_loss' in warning


def test_debug_nans_finds_broken_physics(start):
  lines = []
  result = loop.train(
    config(env_steps=2 * STOP, log_every=1000, eval_episodes=1),
    Breaking(start, True),
    report=lines.append,
    debug_nans=True,
  )
  assert not np.any(result.state.frozen)
  (warning,) = [line for line in lines if line.startswith('warning')]
  assert f'seed {SEED}: physics not finite' in warning


def test_first_nan_points_at_the_operation():
  found = dumps.first_nan(lambda x: jnp.sqrt(x) + 1, jnp.float32(-1))
  assert 'sqrt' in found and 'test_numbers.py' in found
  assert 'infinite: array' in dumps.first_nan(jnp.exp, jnp.float32(1e3))


@pytest.mark.parametrize('damage', ['truncated', 'pickle', 'other'])
def test_dumps_that_are_none_are_refused(dumped, tmp_path, damage):
  workdir, *_ = dumped
  (path,) = (workdir / 'faults').iterdir()
  bad = tmp_path / 'bad.npz'
  if damage == 'truncated':
    bad.write_bytes(path.read_bytes()[:1000])
  elif damage == 'pickle':
    np.savez(bad, record=np.array({'config': 1}, dtype=object))
  else:
    np.savez(bad, record=np.array(json.dumps({'config': {}})))
  with pytest.raises(ConfigError, match='not an intact dump'):
    dumps.load(bad)
