"""Shows the policies of a run as GIF, MP4 or a page with a 3D viewer.

python -m launch.render --workdir=runs/...
"""

import re
from pathlib import Path

from absl import flags

from mjx_crossq.config import ConfigError
from mjx_crossq.envs import opengl
from mjx_crossq.launch import cli, path_flags

FORMATS = ('gif', 'mp4', 'html')

_WORKDIR = path_flags.define('workdir', None, 'folder of the run')
_STEP = flags.DEFINE_string(
  'step', None, 'env step of the checkpoint, or best (the newest)'
)
_SEED = flags.DEFINE_integer('seed', None, 'one seed only (all, in a grid)')
_EPISODE = flags.DEFINE_integer(
  'episode', 0, "which of an evaluation's episodes"
)
_FORMAT = flags.DEFINE_enum(
  'format',
  None,
  FORMATS,
  'file format (default: the suffix of --output, or gif)',
)
_OUTPUT = path_flags.define(
  'output', None, 'the file (videos/step<step>.<format> in the workdir)'
)
_CAMERA = flags.DEFINE_string(
  'camera', None, "name or number of the model's; -1: free (side, or the first)"
)
_SECONDS = flags.DEFINE_float(
  'seconds', None, 'length in simulated time (the whole episode)', 1e-3
)
_ENV_STEPS = flags.DEFINE_integer('env_steps', None, 'the same in env steps', 1)
_FPS = flags.DEFINE_float(
  'fps', None, 'about as many frames a second (25; mp4: 50)', 0.1
)
_SIZE = flags.DEFINE_string('size', '320x240', "WxH of a seed's picture")


def main() -> None:
  """Reads the flags, plays the policies and writes the file."""
  workdir = cli.needed(_WORKDIR)
  kind = _format()
  size = _size()
  # These load JAX and MuJoCo; wrong flags are refused before that.
  from mjx_crossq.policy import recording, video, webpage

  if kind == 'mp4':
    video.require_ffmpeg()
  cli.use_compilation_cache()
  runner, policy, step = cli.load_policy(workdir, _STEP.value)
  rows = cli.rows(runner, _SEED.value)
  episodes = recording.record(
    runner,
    policy,
    step,
    rows,
    _EPISODE.value,
    _ENV_STEPS.value,
    _SECONDS.value,
  )
  path = Path(_OUTPUT.value or _default_output(step, kind))
  every = video.stride(
    episodes[0].dt,
    _FPS.value or (50 if kind == 'mp4' else 25),
    0.0 if kind == 'mp4' else video.GIF_SHORTEST,
  )
  if kind == 'html':
    title = f'{runner.config.task}, env step {step:,}'
    webpage.write(episodes, path, title, every)
  else:
    clip = video.Clip(episodes, size, every, _CAMERA.value)
    {'gif': video.write_gif, 'mp4': video.write_mp4}[kind](clip, path)
  for episode in episodes:
    print(
      f'seed {episode.seed}: return {episode.returns[-1]:.1f} in '
      f'{episode.steps * episode.dt:.2f} s'
    )
  print(f'video: {path} ({path.stat().st_size / 1e3:,.0f} kB)')


def _format() -> str:
  """The format: --format, or else the suffix of --output, or else gif."""
  suffix = Path(_OUTPUT.value or '').suffix.lstrip('.').lower()
  if _OUTPUT.value and suffix not in FORMATS:
    raise ConfigError(
      f'--output={_OUTPUT.value} must end in one of {", ".join(FORMATS)}'
    )
  if _FORMAT.value and suffix and _FORMAT.value != suffix:
    raise ConfigError(
      f'--format={_FORMAT.value} contradicts --output={_OUTPUT.value}'
    )
  return _FORMAT.value or suffix or 'gif'


def _size() -> tuple[int, int]:
  found = re.fullmatch(r'(\d+)x(\d+)', _SIZE.value)
  width, height = map(int, found.groups()) if found else (0, 0)
  if not (64 <= width <= 4096 and 64 <= height <= 4096):
    raise ConfigError(
      f'--size={_SIZE.value} must be WxH, each 64 to 4096, such as 320x240'
    )
  return width, height


def _default_output(step: int, kind: str) -> Path:
  seed = '' if _SEED.value is None else f'-seed{_SEED.value}'
  episode = f'-episode{_EPISODE.value}' if _EPISODE.value else ''
  name = f'step{step}{seed}{episode}.{kind}'
  return Path(_WORKDIR.value or '') / 'videos' / name


def _prepare() -> None:
  """Chooses the OpenGL backend before MuJoCo is imported."""
  html = _FORMAT.value == 'html' or (_OUTPUT.value or '').endswith('.html')
  if not html and (wrong := opengl.choose()):
    cli.fail(wrong)


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__, _prepare)


if __name__ == '__main__':
  run()
