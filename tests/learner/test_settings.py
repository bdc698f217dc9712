"""Numbers do not depend on settings of jax; what they would, is refused."""

import contextlib
import json
import os
import subprocess
import sys

import jax
import pytest

from mjx_crossq import ConfigError, Runner, envs, load_policy
from mjx_crossq.envs import adapters, settings
from mjx_crossq.host import run as loop
from tests.envs.test_adapters import Falling
from tests.reliability import runs


class Careless(Falling):
  """Makes keys without an implementation, and keeps one."""

  def reset(self, rng):
    state = super().reset(rng)
    rng = jax.random.fold_in(jax.random.PRNGKey(3), state.obs[0].astype(int))
    return state.replace(info={'n': 0, 'rng': rng})

  def step(self, state, action):
    key = state.info['rng']
    state = super().step(state, action)
    return state.replace(
      obs=state.obs + jax.random.uniform(key, (2,)),
      info={**state.info, 'rng': jax.random.split(key)[0]},
    )


class Keyed(Falling):
  """Keeps a typed key."""

  def reset(self, rng):
    return super().reset(rng).replace(info={'n': 0, 'rng': rng})

  def step(self, state, action):
    new = super().step(state, action)
    return new.replace(info={**new.info, 'rng': state.info['rng']})


def trained(env):
  runner = Runner(runs.config(env_steps=40, action_repeat=1), env)
  state, _ = runner.train_chunk(runner.init(), 12)
  returns = runner.evaluate(state.agent.actor.network, 12)
  return state, returns, runner.diagnose(state, 12)


@pytest.mark.parametrize(
  ('env', 'implementation'),
  [
    pytest.param('Careless', 'rbg', marks=pytest.mark.slow),
    pytest.param('counter', 'rbg', marks=pytest.mark.slow),
    pytest.param('Keyed', 'unsafe_rbg', marks=pytest.mark.slow),
  ],
)
def test_the_default_of_keys_changes_no_number(env, implementation):
  def make():
    if env == 'counter':
      return runs.env()
    return adapters.Adapted(globals()[env](), env, 20)

  expected = trained(make())
  with jax.default_prng_impl(implementation):
    found = trained(make())
  runs.assert_same_bits(expected, found)


@contextlib.contextmanager
def setting(name, value):
  before = getattr(jax.config, name)
  jax.config.update(name, value)
  try:
    yield
  finally:
    jax.config.update(name, before)


OTHERS = {
  'jax_random_seed_offset': 1,
  'jax_numpy_dtype_promotion': 'strict',
  'jax_numpy_rank_promotion': 'raise',
}


@pytest.mark.parametrize('name', settings.ACCEPTED)
def test_other_settings_are_refused_before_anything_is_made(name, tmp_path):
  accepted, _ = settings.ACCEPTED[name]
  value = OTHERS.get(name, 'disallow' if 'guard' in name else not accepted[0])
  if 'behavior' in name:
    value = 'raise'
  with setting(name, value), pytest.raises(ConfigError, match=name.upper()):
    loop.train(runs.config(), runs.env(), workdir=tmp_path / 'run')
  assert not list(tmp_path.iterdir())


def test_a_policy_is_refused_too(tmp_path):
  (tmp_path / 'config.json').write_text(
    json.dumps({'config': runs.config().to_dict()})
  )
  with (
    setting('jax_threefry_partitionable', False),
    pytest.raises(ConfigError, match='JAX_THREEFRY_PARTITIONABLE'),
  ):
    load_policy(tmp_path, lambda *args, **kwargs: runs.env())


@pytest.mark.parametrize('name', settings.OF_ENVIRONMENTS)
def test_environments_are_refused_where_their_numbers_would_change(name):
  """So that the interfaces to gymnasium and others have the same ones."""
  value = OTHERS.get(name, not settings.ACCEPTED[name][0][0])
  with setting(name, value), pytest.raises(ValueError, match=name.upper()):
    envs.load('pendulum-swingup')


@pytest.mark.parametrize('value', ['1', 'maybe'])
def test_a_variable_is_refused_in_one_line(value):
  done = subprocess.run(
    [sys.executable, '-m', 'mjx_crossq.launch.train', '--dry_run'],
    env=os.environ | {'JAX_ENABLE_X64': value},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2, done.stderr
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert 'JAX_ENABLE_X64' in done.stderr


def test_keys_are_threefry():
  key = Runner(runs.config(), runs.env()).init().key
  assert jax.random.key_impl(key) == 'threefry2x32'
