"""Recorded episodes, their pictures without OpenGL, and the files."""

import itertools
import json
import sys
import types
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from brax import envs as brax_envs
from PIL import Image

from mjx_crossq import ConfigError, Runner, envs, from_preset
from mjx_crossq.envs import adapters
from mjx_crossq.errors import WriteError
from mjx_crossq.host.evaluation import StockEpisodes, StockEvaluation
from mjx_crossq.policy import recording, video, viewing, webpage
from tests.learner.probes import Counter

STEP = 40
SMALL = {
  'num_seeds': 2,
  'seed': 3,
  'action_repeat': 4,
  'eval_episodes': 2,
  'critic_width': 8,
  'actor_width': 8,
  'batch_size': 8,
  'warmup': 8,
  'replay_capacity': 80,
}


@pytest.fixture(scope='module')
def untrained():
  """A runner, its policies, and their returns in an evaluation."""
  config = from_preset('crossq_wn', **SMALL, task='pendulum-swingup')
  runner = Runner(config, envs.load(config.task))
  policy = runner.init().agent.actor.network
  evaluation = StockEvaluation(runner, runner.trainer.rollout.env)
  return runner, policy, evaluation.returns(policy, STEP)


class Test_record:  # noqa: N801
  @pytest.mark.parametrize('episode', [0, 1])
  def test_gives_the_returns_of_the_evaluation(self, untrained, episode):
    runner, policy, returns = untrained
    assert len(np.unique(returns)) > 1
    found = recording.record(runner, policy, STEP, episode=episode)
    assert [e.seed for e in found] == [3, 4]
    for row, played in enumerate(found):
      assert played.steps == 1000 and played.states.shape == (1001, 2)
      assert played.returns[0] == 0
      np.testing.assert_allclose(
        played.returns[-1], returns[row, episode], rtol=1e-12
      )

  def test_one_seed_alone_has_the_same_bits(self, untrained):
    runner, policy, _ = untrained
    both = recording.record(runner, policy, STEP, env_steps=100)
    (alone,) = recording.record(runner, policy, STEP, [1], env_steps=100)
    assert alone.seed == 4
    np.testing.assert_array_equal(alone.states, both[1].states)
    assert np.abs(both[0].states - both[1].states).max() > 0

  @pytest.mark.parametrize(
    ('limit', 'steps'),
    [({'env_steps': 10}, 10), ({'seconds': 0.5}, 25), ({'seconds': 99}, 1000)],
  )
  def test_stops_where_it_is_told(self, untrained, limit, steps):
    runner, policy, _ = untrained
    (played,) = recording.record(runner, policy, STEP, [0], **limit)
    assert played.steps == steps

  def test_places_the_physics(self, untrained):
    runner, policy, _ = untrained
    (played,) = recording.record(runner, policy, STEP, [0], env_steps=10)
    data = played.place(4).data
    np.testing.assert_array_equal(data.qpos, played.states[4][:1])
    x, _, z = data.xmat[-1].reshape(3, 3)[:, 2]
    angle = float(played.states[4][0])
    np.testing.assert_allclose([x, z], [np.sin(angle), np.cos(angle)], 1e-6)

  def test_no_such_episode(self, untrained):
    runner, policy, _ = untrained
    with pytest.raises(ConfigError, match='0 to 1'):
      recording.record(runner, policy, STEP, episode=2)

  def test_nothing_to_draw(self):
    runner = Runner(from_preset('crossq_wn', **SMALL), Counter(12))
    policy: Any = None  # never asked
    with pytest.raises(ConfigError, match='cannot be drawn'):
      recording.record(runner, policy, STEP)


class Sliding:
  """Brax's interface: a bead that is pushed, and lost beyond 0.15."""

  action_size = 1
  episode_length = 40
  dt = 0.05

  def __init__(self):
    self.sys = types.SimpleNamespace(
      mj_model=mujoco.MjModel.from_xml_string(
        '<mujoco><worldbody><body><joint type="slide" axis="1 0 0"/>'
        '<geom size=".1"/></body></worldbody></mujoco>'
      )
    )

  def reset(self, rng):
    return self._state(jax.random.uniform(rng, (1,)) * 0.1)

  def step(self, state, action):
    return self._state(state.pipeline_state['qpos'] + 0.01 * (2 + action))

  def _state(self, x):
    data = _Data(qpos=x, qvel=0 * x, act=jnp.zeros(0))
    return brax_envs.State(
      data, x, jnp.sum(x), jnp.float32(jnp.any(x > 0.15)), {}, {}
    )


@jax.tree_util.register_pytree_node_class
class _Data(dict):
  __getattr__ = dict.__getitem__

  def tree_flatten(self):
    return tuple(self.values()), tuple(self)

  @classmethod
  def tree_unflatten(cls, names, values):
    return cls(zip(names, values, strict=True))


def test_environments_of_others_play_their_own_episode():
  env = adapters.Adapted(Sliding(), 'sliding', 40)
  runner = Runner(from_preset('crossq_wn', **SMALL), env)
  policy = runner.init().agent.actor.network
  returns = runner.evaluate(policy, STEP)
  for episode in range(2):
    found = recording.record(runner, policy, STEP, episode=episode)
    for row, played in enumerate(found):
      assert played.dt == 0.05
      # The last state is the one beyond the edge.
      assert (played.states[:-1, 0] <= 0.15).all()
      assert played.states[-1, 0] > 0.15
      np.testing.assert_allclose(
        played.returns[-1], returns[row, episode], rtol=1e-5
      )
      assert played.place(1).data.xpos[1, 0] == played.states[1, 0]


class Window:
  """A viewer that is closed after some frames."""

  def __init__(self, stock, frames):
    self.stock, self.left, self.seen = stock, frames, []

  def is_running(self):
    return self.left > 0

  def sync(self):
    self.left -= 1
    self.seen.append(self.stock.physics.get_state().copy())


class Clock:
  """Time that passes only where somebody sleeps."""

  def __init__(self):
    self.now, self.times = 5.0, []

  def monotonic(self):
    return self.now

  def sleep(self, seconds):
    self.now += seconds
    self.times.append(self.now)


def test_viewing_shows_every_state_at_its_time(untrained, capsys, monkeypatch):
  runner, policy, returns = untrained
  env = runner.trainer.rollout.env
  episodes = StockEpisodes(runner, env, 1)
  window = Window(episodes.stock[0], 1001 + 1001 + 5)
  clock = Clock()
  monkeypatch.setattr(viewing, 'time', clock)
  viewing.show(episodes, policy, STEP, 1, window, speed=0.5)
  assert len(window.seen) == 2007
  # Steps of 20 ms, at half the speed.
  np.testing.assert_allclose(clock.times, 5 + 0.04 * np.arange(1, 2008))
  shown = capsys.readouterr().out.splitlines()
  assert shown == [f'episode {i}: return {returns[1, i]:.1f}' for i in range(2)]
  (played,) = recording.record(runner, policy, STEP, [1])
  np.testing.assert_array_equal(window.seen[:1001], played.states)


def test_viewing_on_a_slow_machine(untrained, monkeypatch):
  """Each look at the clock is later than the next state is due."""

  class Late(Clock):
    def monotonic(self):
      self.now += 0.1
      return self.now

    def sleep(self, seconds):
      assert seconds >= 0
      super().sleep(seconds)

  runner, policy, _ = untrained
  episodes = StockEpisodes(runner, runner.trainer.rollout.env, 1)
  window = Window(episodes.stock[0], 20)
  clock = Late()
  monkeypatch.setattr(viewing, 'time', clock)
  viewing.show(episodes, policy, STEP, 1, window)
  assert len(window.seen) == len(clock.times) == 20


@pytest.mark.parametrize(
  ('dt', 'fps', 'shortest', 'every'),
  [
    (0.01, 25, 0, 4),
    (0.01, 50, 0, 2),
    (0.01, 100, 0.02, 2),
    (0.025, 25, 0, 2),
    (0.03, 25, 0, 1),
    (0.04, 50, 0.02, 1),
    (0.02, 25, 0.02, 2),
  ],
)
def test_stride(dt, fps, shortest, every):
  assert video.stride(dt, fps, shortest) == every


def test_grid_is_row_by_row():
  panels = [np.full((30, 41, 3), 50 * i, np.uint8) for i in range(1, 6)]
  picture = video.grid(panels)
  assert picture.shape == (62, 128, 3)  # 2 x 30 + 2, 3 x 41 + 4, made even
  for index, panel in enumerate(panels):
    row, column = divmod(index, 3)
    top, left = row * 32, column * 43
    np.testing.assert_array_equal(
      picture[top : top + 30, left : left + 41], panel
    )
  assert (picture[32:, 86:] == picture[-1, -1]).all()  # nothing there
  assert video.grid(panels[:1]).shape == (30, 42, 3)


def test_label_is_drawn_within_its_strip():
  plain = np.full((240, 320, 3), 120, np.uint8)
  one = video.label(plain, 'seed 0', '1.00 s   return 3.0')
  other = video.label(plain, 'seed 0', '1.04 s   return 9.5')
  assert one.shape == plain.shape and (plain == 120).all()
  strip = np.flatnonzero((one != plain).any(axis=(1, 2)))
  assert strip.max() < 30
  np.testing.assert_array_equal(one[30:], plain[30:])
  for half in (one[:30, :100], one[:30, 160:]):
    assert half.max() > 240  # white letters on the darkened strip
    assert 0.02 < (half > 200).mean() < 0.3
  np.testing.assert_array_equal(one[:, :100], other[:, :100])
  assert (one != other).any()
  # Nothing is cut off at the right.
  assert (one[:30, -4:] < 200).all()


class Squares:
  """A square that moves."""

  def __init__(self, dt, count=20):
    self.dt, self._count = dt, count

  def __len__(self):
    return self._count

  def __getitem__(self, index):
    picture = np.full((64, 96, 3), (20, 40, 80), np.uint8)
    picture[20:40, 3 * index : 3 * index + 20] = (250, 150, 60)
    return picture


@pytest.mark.parametrize('dt', [0.025, 0.03, 0.04])
def test_gif_plays_at_real_speed(tmp_path, dt):
  frames = Squares(dt)
  path = tmp_path / 'new' / 'clip.gif'
  video.write_gif(frames, path)
  image = Image.open(path)
  durations, error = [], 0
  for index in range(image.n_frames):
    image.seek(index)
    durations.append(image.info['duration'])
    shown = np.asarray(image.convert('RGB')).astype(int)
    error = max(error, np.abs(shown - frames[index]).max())
  assert image.n_frames == 20 and image.info['loop'] == 0
  assert abs(sum(durations) - 1000 * dt * 20) <= 10
  assert min(durations) >= 20
  assert error < 8
  assert [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize('dt', [0.02, 0.03, 0.025])
def test_mp4_plays_at_real_speed(tmp_path, dt):
  path = tmp_path / 'clip.mp4'
  video.write_mp4(Squares(dt), path)
  count, seconds = imageio_ffmpeg.count_frames_and_secs(path)
  assert count == 20
  assert abs(seconds - 20 * dt) <= dt
  reader = imageio_ffmpeg.read_frames(path)
  assert next(reader)['size'] == (96, 64)
  first, *_, last = (
    np.frombuffer(x, np.uint8).reshape(64, 96, 3) for x in reader
  )
  for shown, index in ((first, 0), (last, 19)):
    assert np.abs(shown - Squares(dt)[index].astype(int)).mean() < 8


def test_what_mp4_needs(monkeypatch):
  monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
  with pytest.raises(ConfigError, match=r'mjx-crossq\[video\]'):
    video.require_ffmpeg()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
  path = tmp_path / 'clip.gif'
  path.write_text('old')

  class Broken(Squares):
    def __getitem__(self, index):
      if index == 13:
        raise RuntimeError('the driver')
      return super().__getitem__(index)

  with pytest.raises(RuntimeError, match='the driver'):
    video.write_gif(Broken(0.04), path)
  assert path.read_text() == 'old'
  assert [*tmp_path.iterdir()] == [path]
  with pytest.raises(WriteError, match='cannot write'):
    video.write_gif(Squares(0.04), path / 'clip.gif')


def stock_episode(task, steps=6):
  stock = envs.load(task, allow_unfaithful=True).stock_env(0)
  stock.reset()
  spec = stock.action_spec()
  states = [stock.physics.get_state().copy()]
  for _ in range(steps):
    stock.step(spec.maximum)
    states.append(stock.physics.get_state().copy())
  returns = np.arange(steps + 1.0)
  dt = stock.control_timestep()
  return recording.Episode(7, dt, np.stack(states), returns, stock.physics)


@pytest.mark.parametrize(
  'task', ['cartpole-swingup', 'walker-run', 'quadruped-walk', 'fish-swim']
)
def test_viewer_holds_the_model_and_its_motion(task):
  episode = stock_episode(task)
  found = json.loads(webpage.trajectory(episode, every=2))
  assert found['opt']['timestep'] == pytest.approx(2 * episode.dt)
  model = episode.physics.model.ptr
  geoms = [geom for link in found['geoms'].values() for geom in link]
  shown = (model.geom_group < 3) & (
    (model.geom_rgba[:, 3] > 0) | (model.geom_matid >= 0)
  )
  assert 0 < len(geoms) <= shown.sum()
  poses = found['states']['x']
  assert len(poses) == 4
  for pose, state in zip(poses, episode.states[::2], strict=True):
    data = mujoco.MjData(model)
    data.qpos[:] = state[: model.nq]
    mujoco.mj_kinematics(model, data)
    np.testing.assert_allclose(pose['pos'], data.xpos[1:], atol=1e-9)
    np.testing.assert_allclose(pose['rot'], data.xquat[1:], atol=1e-9)
  moved = np.abs(np.array(poses[0]['pos']) - poses[-1]['pos']).max()
  turned = np.abs(np.array(poses[0]['rot']) - poses[-1]['rot']).max()
  assert max(moved, turned) > 1e-3


def test_viewer_gets_ellipsoids_as_closed_meshes():
  episode = stock_episode('fish-swim', 1)
  model = episode.physics.model.ptr
  geoms = json.loads(webpage.trajectory(episode))['geoms']
  meshes = [g for g in itertools.chain(*geoms.values()) if g['name'] == 'Mesh']
  kinds = (model.geom_type == int(mujoco.mjtGeom.mjGEOM_ELLIPSOID)).nonzero()[0]
  sizes = {tuple(np.round(model.geom_size[g], 9)) for g in kinds}
  assert len(meshes) > 1
  for mesh in meshes:
    vert, face = np.array(mesh['vert']), np.array(mesh['face'])
    assert tuple(np.round(mesh['size'], 9)) in sizes
    np.testing.assert_allclose(
      np.linalg.norm(vert / mesh['size'], axis=1), 1, atol=1e-9
    )
    a, b, c = vert[face].transpose(1, 0, 2)
    # Outward triangles that enclose nearly the ellipsoid's volume.
    volume = np.sum(a * np.cross(b, c)) / 6
    whole = 4 / 3 * np.pi * np.prod(mesh['size'])
    assert 0.9 * whole < volume < whole


@pytest.mark.parametrize(
  ('task', 'message'),
  [
    ('quadruped-escape', r'hfield.*terrain.*--format=gif'),
    ('dog-walk', r'no skin.*--format=gif'),
  ],
)
def test_viewer_says_what_it_cannot_show(task, message):
  with pytest.raises(ConfigError, match=message):
    webpage.trajectory(stock_episode(task, 1))


def test_viewer_colours():
  geoms = json.loads(webpage.trajectory(stock_episode('walker-run')))['geoms']
  red, green, blue, _ = geoms['torso'][0]['rgba']
  assert (red, green, blue) == pytest.approx((0.7, 0.5, 0.3))  # its material
  (floor,) = (g for g in geoms['world'] if g['name'] == 'Plane')
  red, green, blue, _ = floor['rgba']
  # Its texture's squares are (.1 .2 .3) and (.2 .3 .4).
  assert (red, green, blue) == pytest.approx((0.15, 0.25, 0.35), abs=0.03)


def test_page_has_a_viewer_for_each_seed(tmp_path):
  episode = stock_episode('cartpole-swingup')
  path: Path = tmp_path / 'page.html'
  webpage.write([episode, episode], path, 'a <task>')
  page = path.read_text()
  assert page.count('<iframe') == 2
  assert 'a &lt;task&gt;' in page
  assert 'seed 7: return 6.0 in 0.06 s' in page
