"""Runs whose agents begin with the networks of another run."""

import json

import jax
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner
from mjx_crossq.host import run as loop
from mjx_crossq.host import warm_start
from mjx_crossq.host.checkpoint import Checkpointer
from tests.reliability import runs


@pytest.fixture(scope='module')
def source(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('source') / 'run'
  runs.train(workdir, env_steps=80, seed=5, target_network=False)
  return workdir


def state_of(workdir, step, **changes):
  runner = Runner(runs.config(**changes), runs.env())
  with Checkpointer(workdir / 'checkpoints', read_only=True) as checkpointer:
    return checkpointer.restore(step, runner.abstract_state())


def first(source, **changes):
  """The first state of a run that begins with the source."""
  runner = Runner(runs.config(init_from=str(source), **changes), runs.env())
  return warm_start.load(runner).into(runner.init(), runner), runner.init()


def rows(tree, *chosen):
  return jax.tree.map(lambda x: np.asarray(x)[list(chosen)], tree)


def test_the_policy_alone(source):
  """Another learning rate; seeds 1, 2 and 3 of a run that has two."""
  old = state_of(source, 80, seed=5, target_network=False).agent
  new, fresh = first(source, seed=1, num_seeds=3, actor_lr=1e-3)
  actor = new.agent.actor
  runs.assert_same_bits(
    rows(actor.network, 0, 1, 2), rows(old.actor.network, 1, 0, 1)
  )
  runs.assert_same_bits(new.agent.critic, fresh.agent.critic)
  rest = actor.replace(network=fresh.agent.actor.network)
  runs.assert_same_bits(rest, fresh.agent.actor)
  assert not np.array_equal(actor.network.params, fresh.agent.actor.network)


def test_the_critic_too_and_an_earlier_step(source):
  old = state_of(source, 40, seed=5, target_network=False).agent
  new, fresh = first(f'{source}@40', init_parts='policy_critic')
  runs.assert_same_bits(new.agent.actor.network, old.actor.network)
  critic = new.agent.critic
  runs.assert_same_bits(critic.network, old.critic.network)
  runs.assert_same_bits(critic.target_params, old.critic.network.params)
  runs.assert_same_bits(critic.opt_state, fresh.agent.critic.opt_state)


def test_variants_begin_alike(source):
  new, _ = first(source, vary=('gamma=0.9,0.99',))
  actor = new.agent.actor.network
  runs.assert_same_bits(rows(actor, 0, 1), rows(actor, 2, 3))


def test_a_run_records_where_it_is_from(source, tmp_path):
  workdir = tmp_path / 'run'
  runs.train(workdir, init=source, env_steps=40)
  lineage = {
    'run': str(source.resolve()),
    'env_step': 80,
    'parts': 'policy',
    'task': 'counter',
    'preset': 'crossq_wn',
    'seeds': [5, 6],
  }
  record = json.loads((workdir / 'config.json').read_text())
  assert record['init'] == lineage
  assert record['config']['init_from'] == str(source)
  # It goes on without the source, to the bits of the undisturbed run.
  source.rename(source.with_name('moved'))
  try:
    resumed = runs.train(workdir, init=source)
  finally:
    source.with_name('moved').rename(source)
  assert json.loads((workdir / 'config.json').read_text())['init'] == lineage
  whole = runs.train(tmp_path / 'whole', init=source)
  runs.assert_same_bits(resumed.state, whole.state)
  with pytest.raises(ConfigError, match='other settings: init_from'):
    runs.train(workdir)
  warm = runs.train(tmp_path / 'next', init=f'{workdir}@40', env_steps=40)
  record = json.loads((warm.workdir / 'config.json').read_text())
  assert record['init']['init'] == lineage


WRONG = {
  'none': ('/none', {}, 'holds no run'),
  'step': ('{}@17', {}, 'no checkpoint at env step 17; there are: 40, 80'),
  'width': ('{}', {'actor_width': 8}, r'is \(16,\) there and \(8,\) here'),
  'layers': ('{}', {'actor_layers': 3}, 'has another size'),
  'kind': ('{}', {'weight_norm': False}, 'weight_norm .True there, False here'),
  'critic': (
    '{}',
    {'init_parts': 'policy_critic', 'num_critics': 3},
    'critic has another size',
  ),
}


@pytest.mark.parametrize('case', WRONG)
def test_what_does_not_fit_is_refused(source, tmp_path, case):
  text, changes, message = WRONG[case]
  with pytest.raises(ConfigError, match=message):
    runs.train(tmp_path / 'run', init=text.format(source), **changes)
  assert not (tmp_path / 'run').exists()


def test_settings_that_contradict():
  with pytest.raises(ConfigError, match='needs --init_from=RUN'):
    loop.train(runs.config(init_parts='policy_critic'), runs.env())
  with pytest.raises(ConfigError, match='not with normalize_rewards'):
    runs.config(
      init_from='a', init_parts='policy_critic', normalize_rewards=True
    )
