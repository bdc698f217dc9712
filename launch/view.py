"""Shows a policy live in MuJoCo's interactive viewer.

python -m launch.view --workdir=runs/...
"""

import os
import sys
import warnings

from absl import flags

from launch import cli

_WORKDIR = flags.DEFINE_string('workdir', None, 'folder of the run')
_STEP = flags.DEFINE_integer(
  'step', None, 'env step of the checkpoint (the newest)'
)
_SEED = flags.DEFINE_integer('seed', None, 'which seed (the first)')
_SPEED = flags.DEFINE_float('speed', 1.0, 'times real time', 0.01)


def main() -> None:
  """Reads the flags and opens the window."""
  from mjx_crossq import viewing
  from mjx_crossq.config import ConfigError
  from mjx_crossq.evaluation import StockEpisodes
  from mjx_crossq.observers import has_stock

  cli.use_compilation_cache()
  runner, policy, step = cli.load_policy(_WORKDIR.value, _STEP.value)
  row = cli.rows(runner, _SEED.value)[0]
  env = runner.trainer.rollout.env
  if not has_stock(env):
    raise ConfigError(f'{env.name} has no stock task to show')
  episodes = StockEpisodes(runner, env, 1)
  physics = episodes.stock[0].physics
  print(f'{env.name}, seed {runner.seeds[row]}, env step {step:,}', flush=True)

  import mujoco.viewer

  try:
    window = mujoco.viewer.launch_passive(physics.model.ptr, physics.data.ptr)
  except RuntimeError as error:  # macOS: it must be started by mjpython
    raise ConfigError(error) from None
  with window as viewer:
    viewing.show(episodes, policy, step, row, viewer, _SPEED.value)


def _prepare() -> None:
  """Refuses where no window can open, before anything is loaded."""
  if sys.platform.startswith('linux'):
    names = [n for n in ('DISPLAY', 'WAYLAND_DISPLAY') if os.environ.get(n)]
    if not names:
      cli.fail(
        'no display (neither DISPLAY nor WAYLAND_DISPLAY is set); '
        'python -m launch.render writes a video instead'
      )
    import glfw

    # MuJoCo's viewer would wait for ever for a window that cannot open.
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      if not glfw.init():
        cli.fail(
          f'no window opens on {names[0]}={os.environ[names[0]]}; '
          'python -m launch.render writes a video instead'
        )
  # A window needs GLFW, whatever draws into files.
  os.environ['MUJOCO_GL'] = 'glfw'


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__, _prepare)


if __name__ == '__main__':
  run()
