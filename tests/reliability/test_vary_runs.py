"""Runs with `vary`: their files, their resume, and PBT on them."""

import json
import re

import jax
import numpy as np
import pytest

from mjx_crossq import ConfigError, load_policy, vary
from mjx_crossq import config as config_lib
from mjx_crossq.host import dumps
from mjx_crossq.host import run as loop
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.items import to_dict
from mjx_crossq.host.run_files import RunFiles
from mjx_crossq.results import curves
from tests import rounding
from tests.learner.probes import Counter
from tests.reliability.runs import (
  SAVE,
  WHOLE,
  assert_same_bits,
  config,
  evaluations,
  records,
)

VARY = ('actor_lr=1e-4,3e-3', 'gamma=0.9')
NAMES = ['actor_lr=0.0001+gamma=0.9', 'actor_lr=0.003+gamma=0.9']
PBT = {
  'vary': (*VARY, 'weight_decay=0.0,0.1'),
  'pbt_every': 20,
  'critic_lr': 3e-3,
}


NAMED = ('metrics.jsonl', 'eval.csv')


class Steered(Counter):
  """The reward is the action, so that rows differ in what they get."""

  name = 'counter'

  def transition(self, hidden, action):
    hidden, _, done = super().transition(hidden, action)
    return hidden, action[0], done


def env():
  return Steered(10)


def train(workdir, env_steps=WHOLE, resume=False, **changes):
  lines = []
  settings = {'vary': VARY, 'normalize_rewards': True} | changes
  result = loop.train(
    config(env_steps=env_steps, **settings),
    env(),
    workdir=workdir,
    resume=resume,
    report=lines.append,
  )
  return result, lines


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """An undisturbed run, one that was resumed, and one variant by itself."""
  folder = tmp_path_factory.mktemp('varied')
  more = {'diagnostics_every': WHOLE}
  whole, lines = train(folder / 'whole', **more)
  train(folder / 'resumed', SAVE)
  resumed, _ = train(folder / 'resumed', resume=True)
  alone, _ = train(folder / 'alone', vary=(), actor_lr=3e-3, gamma=0.9, **more)
  return folder, whole, resumed, alone, lines


def trained(workdir):
  return [
    {name: x for name, x in record.items() if not name.startswith('diag/')}
    for record in records(workdir)
  ]


def test_a_resumed_run_is_the_undisturbed_one(runs):
  folder, whole, resumed, *_ = runs
  assert_same_bits(whole.state, resumed.state)
  assert whole.runner.traces['train_chunk'] == 1
  for name in NAMES:
    one, other = (folder / x / 'variants' / name for x in ('whole', 'resumed'))
    assert trained(one) == trained(other) and trained(one)
    assert evaluations(one) == evaluations(other)


def test_a_variant_is_a_run_of_its_own(runs):
  folder, whole, _, alone, _ = runs
  folders = vary.folders(folder / 'whole', whole.config)
  assert [path.name for path in folders] == NAMES
  for path in folders:
    run = curves.Run.read(path)
    assert run.config.vary == () and run.returns()
    assert (path / 'learning_curve.png').stat().st_size > 5000
  saved, _ = config_lib.load(folders[1] / 'config.json')
  assert saved == alone.config
  assert whole.runner.seeds == [0, 1, 0, 1]
  parts = lambda s: (s.agent, s.rollout.reward_stats)  # noqa: E731
  rows = jax.tree.map(lambda x: x[2:], parts(whole.state))
  bound = rounding.bound(alone.runner, alone.config.iterations)
  assert bound < 0.05
  assert_close(rows, parts(alone.state), bound)
  pairs = zip(records(folders[1]), records(folder / 'alone'), strict=True)
  for one, other in pairs:
    assert one.pop('hyper/actor_lr') == 3e-3 and one.pop('hyper/gamma') == 0.9
    assert one.keys() == other.keys()
    assert one['seed'] == other['seed']
    assert one['env_step'] == other['env_step']
    assert_close(numbers(one), numbers(other), 10 * bound)
  # The other variant is another agent.
  with pytest.raises(AssertionError):
    rows = jax.tree.map(lambda x: x[:2], whole.state.agent)
    assert_close(rows, alone.state.agent, 2 * bound)


def numbers(record):
  return [x for x in record.values() if isinstance(x, int | float)]


def assert_close(one, other, tolerance):
  pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
  for a, b in pairs:
    error = np.linalg.norm(np.subtract(a, b))
    assert error <= tolerance * max(np.linalg.norm(b), 1e-2), (a, b)


def test_what_the_user_sees(runs):
  *_, lines = runs
  shown = '\n'.join(lines)
  assert re.search(
    rf'return {re.escape(NAMES[0])}: \S+ \S+, {NAMES[1][:8]}', shown
  )
  rows = re.findall(r'^ +(\d) +[\d.]+ \+- [\d.]+ +(\S+)$', lines[-1], re.M)
  assert rows == [(str(s), name) for name in NAMES for s in (0, 1)]


def test_a_variant_is_loaded_by_its_folder(runs):
  folder, whole, *_ = runs
  load = lambda *_, **__: env()  # noqa: E731
  path = folder / 'whole' / 'variants' / NAMES[1]
  runner, policy, step = load_policy(path, load)
  assert step == WHOLE and runner.seeds == [0, 1]
  assert runner.config.actor_lr == 3e-3 and not runner.config.vary
  assert_same_bits(policy, jax.tree.map(lambda x: x[2:], whole.policy))
  for read in (
    lambda x: load_policy(x, load),
    curves.Run.read,
  ):
    with pytest.raises(ConfigError, match='has variants'):
      read(folder / 'whole')


def test_a_run_without_vary_has_the_state_it_always_had(runs):
  folder, whole, _, alone, _ = runs
  assert alone.state.hyper == {} and set(whole.state.hyper) == {
    'actor_lr',
    'gamma',
  }
  parts = {name.split('.')[0] for name in to_dict(alone.state)}
  every = {'agent', 'rollout', 'replay', 'key', 'iteration', 'frozen'}
  assert parts == every
  with Checkpointer(folder / 'alone' / 'checkpoints') as saved:
    state = saved.restore(WHOLE, alone.runner.abstract_state())
  assert_same_bits(state, alone.state)


def test_a_kill_between_two_variants_writes_nothing_twice(tmp_path):
  c = config(vary=VARY, eval_every=20)

  def write(files, step):
    files.write_metrics({'seed': s, 'env_step': step} for s in (0, 1, 0, 1))
    files.write_evaluation([0, 1, 0, 1], step, {'mjx': np.full((4, 2), step)})

  with RunFiles(tmp_path, c, 0) as files:
    for step in (20, 40, 60):
      write(files, step)
  first, second = vary.folders(tmp_path, c)
  whole = [(p / n).read_bytes() for p in (first, second) for n in NAMED]
  for name in NAMED:  # as if the kill had come after the first one's at 40
    lines = (second / name).read_text().splitlines(keepends=True)
    (second / name).write_text(''.join(x for x in lines if '40' not in x))
  with RunFiles(tmp_path, c, 40, 4) as files:
    assert not files.has_metrics and not files.has_returns
    write(files, 40)
    write(files, 60)
  assert whole == [(p / n).read_bytes() for p in (first, second) for n in NAMED]


def test_a_dump_of_a_row_has_its_values(runs, tmp_path):
  _, whole, *_ = runs
  path = dumps.save(tmp_path, whole.runner, whole.state, 3)
  assert path.name == f'seed1-{NAMES[1]}-step{WHOLE}.npz'
  dump = dumps.load(path)
  assert dump.hyper == {
    'actor_lr': pytest.approx(3e-3),
    'gamma': pytest.approx(0.9),
  }
  assert dump.replay()[0] is None


# ---------------------------------------------------------------------- PBT


@pytest.fixture(scope='module')
def populations(tmp_path_factory):
  folder = tmp_path_factory.mktemp('pbt')
  whole, _ = train(folder / 'whole', **PBT)
  train(folder / 'resumed', SAVE, **PBT)
  resumed, _ = train(folder / 'resumed', resume=True, **PBT)
  return folder, whole, resumed


@pytest.mark.slow
def test_a_resumed_population_is_the_undisturbed_one(populations):
  folder, whole, resumed = populations
  assert_same_bits(whole.state, resumed.state)
  logs = [(folder / x / 'pbt.jsonl').read_text() for x in ('whole', 'resumed')]
  assert logs[0] == logs[1]
  for path in vary.folders(folder / 'whole', whole.config):
    other = folder / 'resumed' / 'variants' / path.name
    assert records(path) == records(other)


@pytest.mark.slow
def test_the_log_is_the_lineage(populations):
  folder, whole, _ = populations
  log = (folder / 'whole' / 'pbt.jsonl').read_text().splitlines()
  events = [json.loads(line) for line in log]
  assert [e['env_step'] for e in events] == [40, 60, 80, 100]
  first = vary.hyper(whole.config)
  for event in events:
    for row, source in enumerate(event['source']):
      assert event['replaced'][row] == (row != source)
      for name, old in first.items():
        new = event[f'hyper/{name}'][row]
        changed = old[source] if name != 'gamma' else 1 - old[source]
        now = new if name != 'gamma' else 1 - new
        factors = (0.8, 1.25) if event['replaced'][row] else (1.0,)
        assert any(np.isclose(now, changed * f, rtol=1e-4) for f in factors)
    first = {n: np.array(event[f'hyper/{n}']) for n in first}
  for name, values in first.items():
    np.testing.assert_allclose(whole.state.hyper[name], values, rtol=1e-6)
  # What is logged at the end is what the rows had then.
  last = [
    records(path)[-2:] for path in vary.folders(folder / 'whole', whole.config)
  ]
  logged = [r['hyper/actor_lr'] for rows in last for r in rows]
  np.testing.assert_allclose(logged, first['actor_lr'], rtol=1e-6)


@pytest.mark.slow
def test_bad_learning_rates_die_out():
  """Half of the rows begin with a rate with which nobody learns.

  The reward is the action: a return is at most 10. With the same compiled
  program as above, as the values and the budget are no part of it.
  """
  rates = ('actor_lr=1e-6,3e-3', *PBT['vary'][1:])
  final = {}
  for every in (200, 0):
    result, lines = train(
      None,
      2000,
      **{**PBT, 'vary': rates, 'pbt_every': every},
      init_alpha=0.01,
      log_every=2000,
      eval_every=0,
    )
    state = result.state
    returns = np.asarray(state.rollout.last_return).mean(axis=1)
    final[every] = np.asarray(state.hyper['actor_lr']), returns
  assert not any('PBT' in line for line in lines)
  rates, returns = final[200]
  fixed, without = final[0]
  assert np.all(rates > 1e-3), rates
  np.testing.assert_allclose(fixed, np.repeat([1e-6, 3e-3], 4))
  assert returns.min() > 8, returns
  assert without[:4].mean() < 6 and without[4:].min() > 8, without
