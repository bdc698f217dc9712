"""Shows a policy live in MuJoCo's interactive viewer.

python -m launch.view --workdir=runs/...
"""

import importlib
import os
import sys
import threading
import warnings
from typing import Any

from absl import flags

from mjx_crossq.config import ConfigError
from mjx_crossq.launch import cli, path_flags

_WORKDIR = path_flags.define('workdir', None, 'folder of the run')
_STEP = flags.DEFINE_string(
  'step', None, 'env step of the checkpoint, or best (the newest)'
)
_SEED = flags.DEFINE_integer('seed', None, 'which seed (the first)')
_SPEED = flags.DEFINE_float('speed', 1.0, 'times real time', 0.01)

_CLOSING_SECONDS = 5


def main() -> None:
  """Reads the flags and opens the window."""
  workdir = cli.needed(_WORKDIR)
  # These load JAX and MuJoCo; wrong flags are refused before that.
  from mjx_crossq.host.evaluation import StockEpisodes, has_stock
  from mjx_crossq.policy import video, viewing

  cli.use_compilation_cache()
  runner, policy, step = cli.load_policy(workdir, _STEP.value)
  row = cli.rows(runner, _SEED.value)[0]
  env = runner.trainer.rollout.env
  if not has_stock(env):
    raise ConfigError(f'{env.name} has no stock task to show')
  episodes = StockEpisodes(runner, env, 1)
  physics = episodes.stock[0].physics
  print(f'{env.name}, seed {runner.seeds[row]}, env step {step:,}', flush=True)

  mujoco: Any = importlib.import_module('mujoco')
  viewer_lib: Any = importlib.import_module('mujoco.viewer')
  before = threading.enumerate()
  try:
    window = viewer_lib.launch_passive(physics.model.ptr, physics.data.ptr)
  except RuntimeError as error:  # macOS: it must be started by mjpython
    raise ConfigError(error) from None
  camera = video.choose_camera(physics.model)
  if camera != -1:  # the viewer starts with the free camera
    window.cam.type = mujoco.mjtCamera.mjCAMERA_FIXED
    window.cam.fixedcamid = physics.model.camera(camera).id
  with window as viewer:
    viewing.show(episodes, policy, step, row, viewer, _SPEED.value)
  # The viewer's thread uses GLFW until it ends, so wait for it.
  for thread in threading.enumerate():
    if thread not in before:
      thread.join(_CLOSING_SECONDS)


def _prepare() -> None:
  """Reports an error if no window can open, before anything is loaded."""
  if sys.platform.startswith('linux'):
    names = [n for n in ('DISPLAY', 'WAYLAND_DISPLAY') if os.environ.get(n)]
    if not names:
      cli.fail(
        'no display (neither DISPLAY nor WAYLAND_DISPLAY is set); '
        'python -m launch.render writes a video instead'
      )
    import glfw  # it comes with MuJoCo and loads OpenGL's libraries

    # MuJoCo's viewer would wait forever for a window that cannot open.
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      if not glfw.init():
        cli.fail(
          f'no window opens on {names[0]}={os.environ[names[0]]}; '
          'python -m launch.render writes a video instead'
        )
  # A window needs GLFW, whichever backend renders to files.
  os.environ['MUJOCO_GL'] = 'glfw'


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__, _prepare)


if __name__ == '__main__':
  run()
