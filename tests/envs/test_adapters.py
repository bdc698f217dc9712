"""Other projects' environments behind our interface."""

import sys

import brax.envs
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Runner, envs, from_preset
from mjx_crossq.envs import adapters
from tests.learner import probes
from tests.learner.test_trainer import SHORT


class Falling:
  """Brax's interface without its base class: falls from 3, ends below 0.

  Its states hold a Python number and an integer reward, as others' may.
  """

  action_size = 2
  episode_length = 20

  def reset(self, rng):
    height = 3.0 + jax.random.uniform(rng)
    return brax.envs.State(
      None,
      jnp.array([height, 0.0]),
      jnp.float32(0),
      jnp.float32(0),
      {},
      {'n': 0},
    )

  def step(self, state, action):
    height = state.obs[0] - 1.0
    return state.replace(
      obs=jnp.stack([height, action[0]]),
      reward=jnp.int32(1),
      done=jnp.where(height < 0, 1.0, 0.0),
      info={'n': state.info['n'] + 1},
    )


class Still(Falling):
  """Its steps look at nothing."""

  def step(self, state, action):
    return state


class Nothing:
  """No environment."""


def changed(
  reset=lambda state: state,
  step=lambda state: state,
  base=Falling,
  **attributes,
):
  """`Falling` with other attributes, or states changed."""

  class Other(base):
    def reset(self, rng):
      return reset(super().reset(rng))

    def step(self, state, action):
      return step(super().step(state, action))

  return type('Other', (Other,), attributes)


def both(**fields):
  """Changes of every state."""

  def change(state):
    return state.replace(**{k: f(state) for k, f in fields.items()})

  return {'reset': change, 'step': change}


def seen(obs):
  """An environment with another observation."""
  return changed(lambda state: state.replace(obs=obs(state.obs)), base=Still)


def own(**attributes):
  """One of our own interface with other attributes."""
  return type('Own', (probes.Counter,), attributes)


class Typed(probes.ConstantReward):
  """Its reward becomes an integer."""

  def step(self, state, action):
    return super().step(state, action).replace(reward=jnp.int32(1))


def fails():
  return 1 / 0


WRONG = {
  'Vector': (
    changed(**both(reward=lambda s: s.reward[None])),
    r'reward .*\[1\]',
  ),
  'Done': (changed(**both(done=lambda s: jnp.zeros(2))), r'done .*\[2\]'),
  'Complex': (changed(**both(reward=lambda s: 1j)), 'reward .*complex'),
  'Missing': (changed(**both(reward=lambda s: None)), 'reward that is None'),
  'NoActions': (changed(action_size=0), 'action_size is 0'),
  'Method': (changed(action_size=lambda self: 2), 'action_size is <bound'),
  'Fraction': (changed(action_size=2.5), 'action_size is 2.5'),
  'Endless': (changed(episode_length=0), 'episode_length is 0'),
  'Never': (changed(episode_length=None), 'episode_length is None'),
  'Picture': (seen(lambda x: jnp.zeros((8, 8, 3))), 'vectors'),
  'Empty': (seen(lambda x: x[:0]), r'float32\[0\]; only vec'),
  'Key': (seen(lambda x: jax.random.key(0)[None]), 'only vectors'),
  'Pixels': (seen(lambda x: {'pixels': x}), 'only vectors'),
  'Scalars': (seen(lambda x: {'state': 1.0}), 'only vectors'),
  'Grows': (
    changed(step=lambda s: s.replace(obs=jnp.zeros(3))),
    r'\(2,\) after',
  ),
  'Adds': (
    changed(step=lambda s: s.replace(info={'n': 0, 'm': 0})),
    r"info\['m'",
  ),
  'Drops': (changed(step=lambda s: s.replace(info={})), r"info\['n'"),
  'Gymnasium': (changed(reset=lambda s: (s.obs, {})), "tuple without 'obs'"),
  'Text': (changed(reset=lambda s: s.replace(info={'n': 'a'})), 'reset fails'),
  'Branches': (changed(step=lambda s: s if s.done else None), 'step fails: Tr'),
  'NoArgument': (
    type('N', (Falling,), {'reset': lambda self: 0}),
    'reset fails',
  ),
  'Class': (lambda: Falling, 'action_size|reset fails'),
  'Fails': (
    fails,
    r'ZeroDivisionError: division by zero \(.*adapters.py:\d+\)',
  ),
  'Stops': (sys.exit, 'SystemExit'),
  'Wide': (own(observation_size=3), r'observation_size is 3 .*float32\[2\]'),
  'Length': (own(action_size=0), 'action_size is 0'),
  'Typed': (Typed, r'another type than reset for \.reward'),
  'Parts': (own(actor_observation=(1, 3)), r'actor_observation is \(1, 3\)'),
}
"""Functions whose environment is refused, with a part of the message."""

globals().update({name: make for name, (make, _) in WRONG.items()})


@pytest.fixture(scope='module')
def pendulum():
  return envs.load('brax:inverted_pendulum')


@pytest.mark.slow
def test_brax_env_is_what_brax_says(pendulum):
  own = brax.envs.get_environment('inverted_pendulum', backend='mjx')
  assert pendulum.observation_size == own.observation_size == 4
  assert pendulum.action_size == own.action_size == 1
  assert pendulum.name == 'brax:inverted_pendulum'
  assert pendulum.terminates and pendulum.stock_env(0) is None

  def run(env):
    def step(state, action):
      state = env.step(state, action)
      return state, (state.obs, state.reward, state.done)

    actions = jax.random.uniform(jax.random.key(1), (40, 1), minval=-1.0)
    first = env.reset(jax.random.key(0))
    # Brax's own states are no fixed point of a loop's types.
    first = jax.tree.map(jnp.asarray, first)
    return (first.obs, *jax.lax.scan(step, first, actions)[1])

  ours, theirs = jax.jit(lambda: (run(pendulum), run(own)))()
  for a, b in zip(ours, theirs, strict=True):
    assert a.dtype == jnp.float32
    np.testing.assert_array_equal(a, b)
  assert ours[3].any()  # It fell.


@pytest.mark.slow
def test_training_handles_its_terminations(pendulum):
  config = from_preset(
    'crossq_wn', **{**SHORT, 'task': pendulum.name, 'num_seeds': 1}
  )
  runner = Runner(config, pendulum)
  state, metrics = runner.train_chunk(runner.init(), 60)
  assert np.isfinite(metrics['critic_loss']).all()
  assert metrics['updates'].sum() > 0
  rows = state.replay[0]
  batch = runner.trainer.replay.sample(rows, jax.random.key(0), 512, 60)
  ended = np.asarray(batch.mask) == 0
  assert 0 < ended.sum() < 512
  # Where the pole leaves .2 rad, brax's rule, and only there, an episode ends.
  angle = np.abs(np.asarray(batch.next_obs)[:, 1])
  np.testing.assert_array_equal(ended, angle > 0.2)


def test_function_of_a_module():
  env = envs.load(f'{__name__}:Falling')
  assert (env.observation_size, env.action_size) == (2, 2)
  assert env.episode_length == 20
  config = from_preset('crossq_wn', **{**SHORT, 'task': env.name})
  runner = Runner(config, env)
  state, _ = runner.train_chunk(runner.init(), 30)
  # Four steps of 1, of which an action lasts two.
  np.testing.assert_array_equal(state.rollout.last_return, 4)
  assert isinstance(
    envs.load('tests.learner.probes:ConstantReward'), probes.ConstantReward
  )


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('brax:ants', 'There are: ant,'),
    (f'{__name__}:Nothing', "no 'reset'"),
    ('no_such_module:make', 'module:function'),
    (f'{__name__}:no_such_function', 'no_such_function'),
    (f'{__name__}:', 'module:function'),
    (':make', 'module:function'),
    ('json:dumps', 'json:dumps.. fails: TypeError'),
    ('json:__doc__', 'fails: TypeError'),
    ('.a:b', 'module:function'),
    ('tests.envs.broken_module:make', 'ZeroDivisionError'),
    ('brax:swimmer', 'No task brax:swimmer. There are: ant,'),
  ],
)
def test_wrong_names_say_what_to_do(name, message):
  with pytest.raises(ValueError, match=message):
    envs.load(name)


@pytest.mark.parametrize('name', WRONG)
def test_what_training_relies_on_is_checked_at_load(name):
  with pytest.raises(ValueError, match=WRONG[name][1]) as error:
    envs.load(f'{__name__}:{name}')
  assert '\n' not in str(error.value)


def test_registered_environments_are_checked_and_adapted(monkeypatch):
  monkeypatch.setattr(envs, '_factories', dict(envs._factories))
  monkeypatch.setattr(envs, 'ALL_TASKS', envs.ALL_TASKS)
  envs.register('mine-easy', Falling)
  assert isinstance(envs.load('mine-easy'), adapters.Adapted)
  envs.register('mine-hard', WRONG['Wide'][0])
  with pytest.raises(ValueError, match='mine-hard: observation_size'):
    envs.load('mine-hard')


class Clock(Falling):
  """Its time begins as an integer and becomes a fraction."""

  def step(self, state, action):
    time = state.info['n'] + 0.25
    state = super().step(state, action)
    return state.replace(obs=jnp.stack([state.obs[0], time]), info={'n': time})


def test_types_hold_what_steps_return():
  env = envs.load(f'{__name__}:Clock')

  def step(state, _):
    state = env.step(state, jnp.zeros(2))
    return state, state.obs[1]

  first = env.reset(jax.random.key(0))
  np.testing.assert_array_equal(
    jax.lax.scan(step, first, length=3)[1], [0.25, 0.5, 0.75]
  )


class Unused(Falling):
  """What is neither learned from nor simulated is not finite."""

  def reset(self, rng):
    nan = jnp.float32(jnp.nan)
    state = super().reset(rng)
    return state.replace(metrics={'a': nan}, info={'n': jnp.inf})

  def step(self, state, action):
    return super().step(state, action).replace(info={'n': jnp.inf})


class Overflows(Unused):
  """A number that it simulates is not finite after two steps."""

  def reset(self, rng):
    state = super().reset(rng)
    return state.replace(pipeline_state={'x': jnp.float32(0)})

  def step(self, state, action):
    x = jnp.where(state.obs[0] < 2, jnp.inf, 0.0)
    return super().step(state, action).replace(pipeline_state={'x': x})


@pytest.mark.parametrize(('make', 'faults'), [(Unused, 0), (Overflows, 1)])
def test_only_what_is_learned_or_simulated_is_a_fault(make, faults):
  env = envs.load(f'{__name__}:{make.__name__}')
  runner = Runner(from_preset('crossq_wn', **SHORT), env)
  _, metrics = runner.train_chunk(runner.init(), 12)
  assert (metrics['env_faults'] > 0).all() == bool(faults)


def test_of_a_mujoco_state_positions_and_velocities_count(pendulum):
  found = jax.eval_shape(pendulum.reset, jax.random.key(0))
  shapes = [x.shape for x in pendulum.simulated(found)]
  assert sorted(shapes) == [(0,), (2,), (2,)]


class Privileged(Falling):
  """The critic sees the height, the actor a constant."""

  def _see(self, state):
    obs = {'privileged_state': state.obs, 'state': jnp.ones(1, jnp.int32)}
    return state.replace(obs=obs)

  def reset(self, rng):
    return self._see(super().reset(rng))

  def step(self, state, action):
    seen = state.obs['privileged_state']
    return self._see(super().step(state.replace(obs=seen), action))


class OnlyState(Falling):
  def reset(self, rng):
    state = super().reset(rng)
    return state.replace(obs={'state': state.obs})

  def step(self, state, action):
    state = super().step(state.replace(obs=state.obs['state']), action)
    return state.replace(obs={'state': state.obs})


def test_a_dictionary_of_actor_and_critic_is_one_vector():
  env = envs.load(f'{__name__}:Privileged')
  assert env.observation_size == 3
  assert env.actor_observation == (0, 1)
  assert env.critic_observation == (1, 3)
  state = env.step(env.reset(jax.random.key(0)), jnp.array([0.5, 0.0]))
  assert state.obs.dtype == jnp.float32
  assert state.obs[0] == 1 and 2 < state.obs[1] < 3 and state.obs[2] == 0.5
  env = envs.load(f'{__name__}:OnlyState')
  assert env.observation_size == 2 and env.actor_observation is None


def test_other_physics_is_refused(pendulum):
  with pytest.raises(ValueError, match="no physics 'warp'"):
    envs.load(f'{__name__}:Falling', physics='warp')


def test_missing_playground_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'mujoco_playground', None)
  with pytest.raises(ValueError, match='pip install playground'):
    envs.load('playground:CheetahRun')


@pytest.mark.slow
def test_playground_env_trains():
  pytest.importorskip('mujoco_playground')
  env = envs.load('playground:CartpoleBalance')
  assert env.episode_length == adapters.EPISODE_LENGTH
  config = from_preset(
    'crossq_wn', **{**SHORT, 'task': env.name, 'num_seeds': 1}
  )
  runner = Runner(config, env)
  _, metrics = runner.train_chunk(runner.init(), 30)
  assert np.isfinite(metrics['critic_loss']).all()
