"""Tasks as gymnasium's environments, single and batched."""

import importlib
import os
import subprocess
import sys
import warnings

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils import env_checker
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as wrappers

from mjx_crossq import envs
from mjx_crossq.envs import base, gym
from mjx_crossq.envs.vector import VectorEnv
from tests.learner import probes

from . import checks

PENDULUM = 'pendulum-swingup'


class Line(base.Env):
  """A point on a line, which ends where it leaves [-1, 1]."""

  name, episode_length, terminates = 'line', 6, True
  observation_size, action_size = 2, 1

  def reset(self, rng):
    return self._state(jax.random.uniform(rng, (2,)) - 0.5)

  def step(self, state, action):
    x = state.obs[0] + 0.5 * action[0]
    return self._state(jnp.stack([x, state.obs[1]]))

  def _state(self, obs):
    done = jnp.float32(jnp.abs(obs[0]) > 1)
    return base.State(None, obs, obs.sum(), done)


def actions(steps, num_envs, size=1):
  rng = np.random.default_rng(0)
  return rng.uniform(-1, 1, (steps, num_envs, size)).astype(np.float32)


@pytest.mark.parametrize('arrays', ['numpy', 'jax'])
def test_trajectory_is_that_of_vmap_bit_for_bit(arrays):
  task, seeds = checks.load(PENDULUM), jnp.arange(7, 10)
  batch = VectorEnv(task, 3, arrays=arrays, max_episode_steps=4)
  obs, _ = batch.reset(seed=7)
  reset, step = jax.jit(jax.vmap(task.reset)), jax.jit(jax.vmap(task.step))

  def fresh(episode):
    keys = [jax.random.fold_in(jax.random.key(s), episode) for s in seeds]
    return reset(jnp.stack(keys))

  state = fresh(0)
  np.testing.assert_array_equal(obs, state.obs)
  for i, action in enumerate(actions(9, 3), 1):
    out = batch.step(action)
    # Every fifth step begins the next episode.
    state = step(state, action) if i % 5 else fresh(i // 5)
    np.testing.assert_array_equal(out[0], state.obs)
    np.testing.assert_array_equal(out[1], state.reward if i % 5 else 0)
    assert not out[2].any() and (out[3] == (i % 5 == 4)).all()
    if i % 5 == 4:
      assert (out[4]['episode']['l'] == 4).all()
    else:
      assert not out[4]
  kind = np.ndarray if arrays == 'numpy' else jax.Array
  assert all(isinstance(x, kind) for x in out[:4])
  assert batch.metadata['jax'] is (arrays == 'jax')


@pytest.mark.parametrize('arrays', ['numpy', 'jax'])
@pytest.mark.parametrize('mode', ['NextStep', 'SameStep'])
def test_equals_gymnasiums_own_vectorisation(mode, arrays):
  """Over episodes that end by themselves and by their time limit."""
  n = 4
  sync = SyncVectorEnv([lambda: gym.Env(Line())] * n, autoreset_mode=mode)
  batch = VectorEnv(Line(), n, autoreset_mode=mode, arrays=arrays)
  assert batch.metadata['autoreset_mode'] is sync.metadata['autoreset_mode']
  for space in ('', 'single_'):
    for kind in ('observation_space', 'action_space'):
      assert getattr(batch, space + kind) == getattr(sync, space + kind)
  ended = np.zeros(2, int)

  def compare(ours, theirs, path=''):
    if isinstance(theirs, dict):
      # Vector wrappers put `episode` beside `final_info` also.
      more = {'episode', '_episode'} & set(theirs.get('final_info', {}))
      assert set(ours) == set(theirs) | more
      for key, value in theirs.items():
        compare(ours[key], value, key)
    elif path == 'final_obs':
      for a, b in zip(ours, theirs, strict=True):
        if b is not None:
          np.testing.assert_allclose(a, b, rtol=1e-5)
        elif arrays == 'numpy':
          assert a is None
    else:
      np.testing.assert_allclose(ours, theirs, rtol=1e-5)
      if arrays == 'numpy':
        assert ours.dtype == theirs.dtype

  for seed in (3, None, [5, 1, 2, 9]):
    compare(batch.reset(seed=seed)[0], sync.reset(seed=seed)[0])
    for action in actions(30, n):
      ours, theirs = batch.step(action), sync.step(action)
      for a, b in zip(ours, theirs, strict=True):
        compare(a, b)
      ended += [ours[2].sum(), ours[3].sum()]
      if ours[2].any() or ours[3].any():
        assert (ours[4]['_episode'] == (ours[2] | ours[3])).all()
  assert (ended > 5).all()


def test_terminations_and_truncations_are_kept_apart():
  batch = VectorEnv(Line(), 8, max_episode_steps=2)
  batch.reset(seed=0)
  for _ in range(2):
    obs, _, terminated, truncated, _ = batch.step(np.ones((8, 1)))
  np.testing.assert_array_equal(terminated, obs[:, 0] > 1)
  np.testing.assert_array_equal(truncated, ~terminated)
  assert terminated.any() and truncated.any()


def test_masked_resets_where_nothing_resets_by_itself():
  batch = VectorEnv(Line(), 3, autoreset_mode=AutoresetMode.DISABLED)
  with pytest.raises(gymnasium.error.ResetNeeded):
    batch.step(np.zeros((3, 1)))
  first, _ = batch.reset(seed=0)
  for _ in range(6):
    obs, _, terminated, truncated, _ = batch.step(np.zeros((3, 1)))
  assert truncated.all() and not terminated.any()
  with pytest.raises(gymnasium.error.ResetNeeded):
    batch.step(np.zeros((3, 1)))
  mask = np.array([True, False, True])
  again, _ = batch.reset(seed=0, options={'reset_mask': mask})
  np.testing.assert_array_equal(again, np.where(mask[:, None], first, obs))
  with pytest.raises(gymnasium.error.ResetNeeded):
    batch.step(np.zeros((3, 1)))
  batch.reset(options={'reset_mask': ~mask})
  assert not batch.step(np.zeros((3, 1)))[3].any()


def test_seeds():
  batch = VectorEnv(Line(), 3)
  first, _ = batch.reset(seed=1)
  later, _ = batch.reset()
  assert (first != later).all()
  np.testing.assert_array_equal(batch.reset(seed=1)[0], first)
  np.testing.assert_array_equal(batch.reset()[0], later)
  np.testing.assert_array_equal(batch.reset(seed=2)[0][:2], first[1:])
  # Without any seed, two draw differently.
  unseeded = [VectorEnv(Line(), 3).reset()[0] for _ in range(2)]
  assert (unseeded[0] != unseeded[1]).all()
  singles = [gym.Env(Line()).reset()[0] for _ in range(2)]
  assert (singles[0] != singles[1]).all()
  single = gym.Env(Line())
  np.testing.assert_array_equal(single.reset(seed=2)[0], first[1])


def test_returned_arrays_are_the_callers_own():
  batch = VectorEnv(Line(), 2)
  obs, _ = batch.reset(seed=0)
  kept = obs.copy()
  obs[:] = 9
  np.testing.assert_array_equal(batch.step(np.zeros((2, 1)))[0], kept)


def test_gymnasiums_wrappers_take_it():
  batch = VectorEnv(Line(), 3, record_episodes=False)
  batch = wrappers.RecordEpisodeStatistics(batch)
  batch.reset(seed=0)
  for action in actions(20, 3):
    obs = batch.step(action)[0]
  assert isinstance(obs, np.ndarray)
  assert batch.episode_count > 3
  batch.close()
  with pytest.raises(gymnasium.error.ResetNeeded):
    batch.step(actions(1, 3)[0])


@pytest.mark.parametrize(
  ('kwargs', 'message'),
  [
    ({'num_envs': 0}, 'at least 1'),
    ({'arrays': 'torch'}, "'numpy' or 'jax'"),
    ({'autoreset_mode': 'Never'}, 'AutoresetMode'),
  ],
)
def test_wrong_options_say_what_to_do(kwargs, message):
  with pytest.raises(ValueError, match=message):
    VectorEnv(Line(), **kwargs)


def test_wrong_shapes_are_refused():
  batch = VectorEnv(Line(), 3)
  with pytest.raises(ValueError, match='2 seeds'):
    batch.reset(seed=[1, 2])
  batch.reset()
  with pytest.raises(ValueError, match=r'actions \(3,\); take \(3, 1\)'):
    batch.step(np.zeros(3))


def test_checker_passes_by_name():
  assert {f'mjx_crossq/{t}-v0' for t in envs.ALL_TASKS} <= set(
    gymnasium.registry
  )
  env = gymnasium.make(f'mjx_crossq/{PENDULUM}-v0')
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    # Observations have no bounds, in stock neither.
    warnings.filterwarnings('ignore', '.*observation space m.*infinity')
    env_checker.check_env(env.unwrapped, skip_render_check=True)
  batch = gymnasium.make_vec(
    f'mjx_crossq/{PENDULUM}-v0', num_envs=3, max_episode_steps=2
  )
  assert isinstance(batch, VectorEnv)
  batch.reset(seed=0)
  for action in actions(2, 3):
    _, _, _, truncated, infos = batch.step(action)
  assert truncated.all() and not infos


def test_unfaithful_tasks_are_refused_by_gymnasium_too(monkeypatch):
  monkeypatch.setitem(envs._factories, PENDULUM, probes.Rough)
  with pytest.raises(ValueError, match='allow_unfaithful=True'):
    gymnasium.make(f'mjx_crossq/{PENDULUM}-v0')


_BY_IMPORT = """
import gymnasium
env = gymnasium.make('mjx_crossq.envs.gym:mjx_crossq/pendulum-swingup-v0')
assert env.reset(seed=0)[0].shape == (3,)
"""

_FORKED = """
import gymnasium
make = 'mjx_crossq.envs.gym:mjx_crossq/pendulum-swingup-v0'
for context in (None, 'spawn'):
  batch = gymnasium.make_vec(
    make, num_envs=2, vectorization_mode='async',
    vector_kwargs={'context': context} if context else {},
  )
  try:
    print(context, batch.reset(seed=0)[0].shape, flush=True)
  except RuntimeError as error:
    print(context, error, flush=True)
  batch.close(terminate=True)
"""


def python(code, **variables):
  """What a new process prints."""
  merged = {**os.environ, **variables}
  done = subprocess.run(
    [sys.executable, '-c', code],
    env={k: v for k, v in merged.items() if v is not None},
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  return done.stdout


def test_tasks_are_registered_by_import():
  python(_BY_IMPORT)


@pytest.mark.slow
def test_forked_workers_say_what_to_do_and_spawned_ones_work():
  forked, spawned = python(_FORKED).splitlines()
  assert forked.startswith('None') and "context='spawn'" in forked
  assert spawned == 'spawn (2, 3)'


_PICTURES = """
import sys, numpy as np, gymnasium
from gymnasium.wrappers import RecordVideo
from mjx_crossq import envs
from mjx_crossq.envs import dm, gym, opengl, vector
task = envs.load('reacher-easy')
stock = dm.Environment(task, seed=0)
stock.reset()
try:
  shown = stock.physics.render(48, 64, camera_id=0)
except RuntimeError as error:
  print('skip', error)
  sys.exit()
env = gymnasium.make(
  'mjx_crossq/reacher-easy-v0', render_mode='rgb_array', size=(64, 48)
)
env.reset(seed=0)
first = env.render()
assert first.shape == (48, 64, 3) and first.dtype == np.uint8
assert np.abs(first - np.float32(shown)).mean() < 5, 'the same state'
for _ in range(20):
  env.step(np.ones(2))
moved = env.render()
assert np.abs(first - np.float32(moved)).mean() > 1
assert env.metadata['render_fps'] == 50
batch = vector.VectorEnv(task, 2, render_mode='rgb_array', size=(64, 48))
batch.reset(seed=0)
one, other = batch.render()
np.testing.assert_array_equal(one, first)
assert (one != other).any()
adapted = gym.Env(
  envs.load('brax:inverted_pendulum'), render_mode='rgb_array', size=(64, 48)
)
adapted.reset(seed=0)
assert adapted.render().std() > 5
try:
  env = RecordVideo(env, sys.argv[1], episode_trigger=lambda _: True)
except gymnasium.error.DependencyNotInstalled:
  print('no moviepy')
else:
  env.reset()
  env.step(np.ones(2))
  env.close()
  print('video')
"""


@pytest.mark.slow
def test_pictures_are_of_the_state(tmp_path):
  code = _PICTURES.replace('sys.argv[1]', repr(str(tmp_path)))
  printed = python(code, MUJOCO_GL=None).split()
  if printed[0] == 'skip':
    pytest.skip(' '.join(printed))
  assert (printed[-1] == 'video') == bool(list(tmp_path.glob('*.mp4')))


def test_what_cannot_be_drawn_is_refused(monkeypatch):
  monkeypatch.delenv('DISPLAY', raising=False)
  monkeypatch.delenv('WAYLAND_DISPLAY', raising=False)
  with pytest.raises(ValueError, match='line has no MuJoCo model'):
    gym.Env(Line(), render_mode='rgb_array')
  with pytest.raises(ValueError, match="render_mode='ansi'"):
    gym.Env(Line(), render_mode='ansi')
  with pytest.raises(RuntimeError, match='needs a display'):
    gym.Env(checks.load(PENDULUM), render_mode='human')
  assert gym.Env(Line()).render() is None


def test_missing_gymnasium_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'gymnasium', None)
  monkeypatch.delitem(sys.modules, 'mjx_crossq.envs.vector')
  with pytest.raises(ImportError, match=r'mjx-crossq\[gymnasium\]'):
    importlib.import_module('mjx_crossq.envs.vector')
