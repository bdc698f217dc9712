"""`launch.render` and `launch.view` as a user starts them."""

import json
import os
import re
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from absl import flags
from PIL import Image

from mjx_crossq import Runner, envs, from_preset
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.evaluation import StockEvaluation
from mjx_crossq.host.run_files import write_config
from mjx_crossq.launch import cli
from tests.launch import programs
from tests.learner.test_video import SMALL, STEP

SETTINGS = SMALL | {'task': 'pendulum-swingup'}

# Prints why nothing can be drawn here, or what each list of flags prints.
_EACH = """
import contextlib, io, json, os, sys
os.environ.pop('MUJOCO_GL', None)
from mjx_crossq.envs import opengl
wrong = opengl.choose()
shown = []
if not wrong:
  from absl import flags
  from absl.testing import flagsaver
  from mjx_crossq.launch import render
  for args in json.loads(sys.argv[1]):
    with flagsaver.flagsaver():
      flags.FLAGS(['render', *args])
      with contextlib.redirect_stdout(io.StringIO()) as out:
        render.main()
      shown.append(out.getvalue())
print(json.dumps([wrong, shown]))
"""


def launch(program, *args, **variables):
  """Runs a program; a variable that is None is unset."""
  merged = {**os.environ, **variables}
  return subprocess.run(
    [sys.executable, '-m', f'mjx_crossq.launch.{program}', *args],
    capture_output=True,
    text=True,
    check=False,
    env={name: value for name, value in merged.items() if value is not None},
  )


def refused(program, *args, **variables):
  """The one line that a program ends with."""
  done = launch(program, *args, **variables)
  assert done.returncode == 2, done.stderr
  (line,) = done.stderr.strip().splitlines()
  return line


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A run's folder with policies that learned nothing, and their returns."""
  workdir = tmp_path_factory.mktemp('run')
  config = from_preset('crossq_wn', **SETTINGS)
  runner = Runner(config, envs.load(config.task))
  state = runner.init()
  write_config(workdir, config)
  with Checkpointer(workdir / 'checkpoints') as checkpointer:
    checkpointer.save(STEP, state)
  evaluation = StockEvaluation(runner, runner.trainer.rollout.env)
  return workdir, evaluation.returns(state.agent.actor.network, STEP)


@pytest.fixture(scope='module')
def written(run):
  """The folder, and what `launch.render` printed of each of its files."""
  workdir, returns = run
  cases = {
    'grid.gif': ['--seconds=2', '--size=128x96', '--fps=20'],
    'other.gif': [
      '--seed=4',
      '--episode=1',
      '--size=96x64',
      '--fps=2',
      '--camera=lookat',
    ],
    'clip.mp4': ['--seed=3', '--env_steps=50', '--size=97x65'],
    'page.html': ['--env_steps=50'],
  }
  calls = [
    [f'--workdir={workdir}', f'--output={workdir / name}', *flags]
    for name, flags in cases.items()
  ]
  done = subprocess.run(
    [sys.executable, '-c', _EACH, json.dumps(calls)],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  wrong, shown = json.loads(done.stdout.splitlines()[-1])
  if wrong:
    pytest.skip(wrong)
  return workdir, returns, dict(zip(cases, shown, strict=True))


def frames(path):
  image = Image.open(path)
  pictures, seconds = [], 0.0
  for index in range(image.n_frames):
    image.seek(index)
    pictures.append(np.asarray(image.convert('RGB')).astype(int))
    seconds += image.info['duration'] / 1000
  return np.stack(pictures), seconds


def test_gif_shows_all_seeds_moving_at_real_speed(written):
  workdir, _, shown = written
  assert 'seed 3: ' in shown['grid.gif'] and 'seed 4: ' in shown['grid.gif']
  assert ' in 2.00 s' in shown['grid.gif']
  pictures, seconds = frames(workdir / 'grid.gif')
  # 20 ms a step; as near to 20 frames a second as steps allow: 2 of them.
  assert abs(seconds - 2.0) <= 0.041
  assert pictures.shape[1:] == (96, 258, 3)
  for left in (0, 130):  # both panels: the scene below the labels
    scene = pictures[:, 20:, left : left + 128]
    assert scene.std(axis=(1, 2)).max() > 10  # something is drawn
    assert (np.abs(scene[0] - scene[-1]) > 20).mean() > 0.002
    strip = pictures[:, :14, left : left + 128]
    assert strip.max() > 200
    assert (strip[0] != strip[-1]).any()


def test_shown_return_is_that_of_the_evaluation(written):
  workdir, returns, shown = written
  assert f'seed 4: return {returns[1, 1]:.1f} in 20.00 s' in shown['other.gif']
  assert returns[1, 1] > 0
  pictures, seconds = frames(workdir / 'other.gif')
  assert pictures.shape[1:] == (64, 96, 3)
  assert abs(seconds - 20) <= 0.51


def test_mp4(written):
  workdir, _, _ = written
  count, seconds = imageio_ffmpeg.count_frames_and_secs(workdir / 'clip.mp4')
  assert abs(seconds - 1.0) <= 0.021 and count == 51
  size = next(imageio_ffmpeg.read_frames(workdir / 'clip.mp4'))['size']
  assert size == (98, 66)


def test_html(written):
  workdir, _, _ = written
  assert (workdir / 'page.html').read_text().count('<iframe') == 2


def test_bad_input(run, monkeypatch):
  monkeypatch.delenv('MUJOCO_GL')  # conftest switches it off
  folder = f'--workdir={run[0]}'
  programs.check_errors(
    'render',
    {
      (): '--workdir is needed',
      ('--workdir=nowhere',): 'holds no run',
      (folder, '--step=41'): 'there are: 40',
      (folder, '--seed=5'): 'there are: 3, 4',
      (folder, '--episode=2'): '0 to 1',
      (folder, '--size=big'): 'WxH',
      (folder, '--size=8x8'): '64 to 4096',
      (folder, '--camera=roof', '--env_steps=4'): '0 fixed, 1 lookat',
      (folder, '--output=clip.avi'): 'gif, mp4, html',
      (folder, '--output=clip.gif', '--format=mp4'): 'contradicts',
    },
  )


def test_opengl_that_is_off_or_absent():
  line = refused('render', '--workdir=x', MUJOCO_GL='disabled')
  assert line == 'error: MUJOCO_GL=disabled switches rendering off; unset it'
  line = refused('render', '--workdir=x', MUJOCO_GL='vulkan')
  assert re.match('error: MUJOCO_GL=vulkan does not work here.*libegl1', line)


def test_a_finished_run_survives_that_nothing_can_be_drawn(run, monkeypatch):
  flags.FLAGS.mark_as_parsed()
  monkeypatch.setenv('MUJOCO_GL', 'disabled')
  line = cli.render(run[0])
  assert line == 'none (MUJOCO_GL=disabled switches rendering off; unset it)'
  monkeypatch.setattr(sys, 'executable', '/no/python')
  assert cli.render(run[0]).startswith('none (')
  flags.FLAGS.unparse_flags()


def test_view_needs_a_display():
  line = refused('view', '--workdir=x', DISPLAY=None, WAYLAND_DISPLAY=None)
  assert 'no display' in line and 'launch.render' in line
  if sys.platform.startswith('linux'):
    line = refused('view', '--workdir=x', DISPLAY=':987', WAYLAND_DISPLAY=None)
    assert 'no window opens on DISPLAY=:987' in line
