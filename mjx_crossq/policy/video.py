"""Videos of recorded episodes, side by side, with labels.

Frames are drawn by dm_control's renderer. `MUJOCO_GL` must name a working
backend before dm_control is imported; `envs.opengl` chooses one.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mjx_crossq.atomic import replacing
from mjx_crossq.config import ConfigError
from mjx_crossq.envs import pictures, runtime
from mjx_crossq.policy.recording import Episode

GIF_SHORTEST = 0.02
"""Seconds; browsers show a shorter frame for a tenth of a second instead."""

_GAP = 2  # pixels between the panels of a grid
_SHADOW = 2048  # texels; more cost memory and make no visible difference
_BACKGROUND = (24, 24, 27)


class Frames(Protocol):
  """Pictures at a constant rate, in any order.

  Attributes:
    dt: seconds that each is shown.
  """

  dt: float

  def __len__(self) -> int:
    """How many there are."""
    ...

  def __getitem__(self, index: int) -> np.ndarray:
    """One of them: uint8, `(height, width, 3)`."""
    ...


def stride(dt: float, fps: float, shortest: float = 0.0) -> int:
  """Env steps from frame to frame, so that a clip plays at real speed.

  Args:
    dt: seconds of an env step.
    fps: desired frames per second.
    shortest: shortest duration of a frame in seconds.

  Returns:
    The number of env steps, at least 1, whose duration is closest to a frame's.
  """
  return max(1, round(1 / (fps * dt)), math.ceil(shortest / dt - 1e-6))


class Clip:
  """Frames of episodes side by side, each with its seed, return and time.

  The last frame is the last state of the longest episode; a shorter episode
  stays in its own last state.
  """

  def __init__(
    self,
    episodes: Sequence[Episode],
    size: tuple[int, int],
    every: int = 1,
    camera: str | int | None = None,
  ):
    """Frames are drawn when they are indexed.

    Args:
      episodes: one or more, of one task.
      size: width and height of an episode's panel, in pixels.
      every: env steps from frame to frame.
      camera: name or number of a camera of the model; None for one at the
        side, or the first.

    Raises:
      ConfigError: there is no such camera.
    """
    self._episodes = episodes
    self._size = size
    self._font = _font(size)
    steps = max(e.steps for e in episodes)
    self._at = range(steps % every, steps + 1, every)
    self.dt = every * episodes[0].dt
    self._camera = choose_camera(episodes[0].physics.model, camera)
    for episode in episodes:
      model = episode.physics.model
      pictures.make_room(model, size)
      quality = model.vis.quality
      quality.shadowsize = min(quality.shadowsize, _SHADOW)

  def __len__(self) -> int:
    """How many frames there are."""
    return len(self._at)

  def __getitem__(self, index: int) -> np.ndarray:
    """Draws a frame: uint8, `(height, width, 3)`."""
    panels = [
      self._panel(episode, self._at[index]) for episode in self._episodes
    ]
    return grid(panels)

  def _panel(self, episode: Episode, at: int) -> np.ndarray:
    at = min(at, episode.steps)
    width, height = self._size
    physics = episode.place(at)
    pixels = physics.render(height, width, camera_id=self._camera)
    left = f'seed {episode.seed}'
    right = f'{at * episode.dt:.2f} s   return {episode.returns[at]:.1f}'
    return label(pixels, left, right, self._font)


def label(
  pixels: np.ndarray,
  left: str,
  right: str,
  font: ImageFont.FreeTypeFont | None = None,
) -> np.ndarray:
  """Writes a line on a darkened strip along the upper edge.

  Args:
    pixels: uint8, `(height, width, 3)`.
    left: text at the left.
    right: text at the right.
    font: of the text; None for one that suits the size.

  Returns:
    A new picture of the same shape.
  """
  height, width = pixels.shape[:2]
  font = font or _font((width, height))
  margin = round(0.5 * font.size)
  strip = round(1.7 * font.size)
  image = np.array(pixels)
  image[:strip] = image[:strip] // 3
  canvas = Image.fromarray(image)
  draw = ImageDraw.Draw(canvas)
  middle = strip // 2
  white = (255, 255, 255)
  draw.text((margin, middle), left, white, font, anchor='lm')
  draw.text((width - margin, middle), right, white, font, anchor='rm')
  return np.asarray(canvas)


def grid(panels: Sequence[np.ndarray]) -> np.ndarray:
  """Puts panels of one size side by side, row by row.

  Args:
    panels: uint8, `(height, width, 3)` each.

  Returns:
    The picture, with about as many rows as columns of panels, and with even
    width and height, which video codecs require.
  """
  columns = math.ceil(math.sqrt(len(panels)))
  rows = math.ceil(len(panels) / columns)
  height, width = panels[0].shape[:2]
  down, right = height + _GAP, width + _GAP
  shape = rows * down - _GAP, columns * right - _GAP
  picture = np.empty((*(side + side % 2 for side in shape), 3), np.uint8)
  picture[:] = _BACKGROUND
  for index, panel in enumerate(panels):
    row, column = divmod(index, columns)
    top, left = row * down, column * right
    picture[top : top + height, left : left + width] = panel
  return picture


def write_gif(frames: Frames, path: Path) -> None:
  """Writes a GIF that repeats endlessly, with one palette for all frames.

  Args:
    frames: what to show.
    path: the file; replaced if it exists.
  """
  sample = {round(i) for i in np.linspace(0, len(frames) - 1, 6)}
  mosaic = Image.fromarray(np.concatenate([frames[i] for i in sorted(sample)]))
  palette = mosaic.quantize(256, Image.Quantize.MEDIANCUT)

  def reduced(index):
    image = Image.fromarray(frames[index])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)

  # A GIF has hundredths of a second. The times of the frames are rounded, not
  # their durations, so that the errors do not add up.
  ends = np.round(100 * frames.dt * np.arange(len(frames) + 1)).astype(int)
  with replacing(path) as file:
    reduced(0).save(
      file,
      format='GIF',
      save_all=True,
      append_images=map(reduced, range(1, len(frames))),
      duration=(10 * np.diff(ends)).tolist(),
      loop=0,
      disposal=1,
    )


def write_mp4(frames: Frames, path: Path) -> None:
  """Writes H.264 in an MP4 file.

  Args:
    frames: what to show.
    path: the file; replaced if it exists.

  Raises:
    ConfigError: the extra `video` is not installed.
  """
  ffmpeg = require_ffmpeg()
  first = frames[0]
  with replacing(path) as file:
    writer = ffmpeg.write_frames(
      str(file),
      first.shape[1::-1],
      fps=1 / frames.dt,
      codec='libx264',
      quality=None,
      macro_block_size=1,
      ffmpeg_log_level='error',
      output_params=['-crf', '20', '-movflags', '+faststart', '-f', 'mp4'],
    )
    with contextlib.closing(writer):
      with runtime.quiet():  # JAX warns when a process is started
        writer.send(None)
      others = (frames[i] for i in range(1, len(frames)))
      for frame in itertools.chain([first], others):
        writer.send(np.ascontiguousarray(frame))


def require_ffmpeg() -> Any:
  """The module `imageio_ffmpeg`.

  Raises:
    ConfigError: it is not installed; the message names the extra.
  """
  try:
    import imageio_ffmpeg  # pyright: ignore[reportMissingImports]
  except ImportError:
    raise ConfigError(
      "MP4 needs imageio-ffmpeg: pip install 'mjx-crossq[video]', or take "
      '--format=gif'
    ) from None
  return imageio_ffmpeg


def choose_camera(model: Any, camera: str | int | None = None) -> str | int:
  """A camera of the model; -1 is the free one.

  Args:
    model: of a stock `Physics`.
    camera: name or number; None for one at the side, or the first.

  Raises:
    ConfigError: there is no such camera.
  """
  names = pictures.camera_names(model)
  if camera is None:
    return pictures.preferred_camera(names)
  if str(camera) in names:
    return str(camera)
  with contextlib.suppress(ValueError):
    if -1 <= int(camera) < len(names):
      return int(camera)
  known = ', '.join(f'{i} {name}'.strip() for i, name in enumerate(names))
  raise ConfigError(
    f'--camera={camera}: there is no such camera; there are -1 (free)'
    + (f', {known}' if known else '')
  )


@functools.cache
def _font(size: tuple[int, int]) -> ImageFont.FreeTypeFont:
  """DejaVu Sans, which matplotlib installs; its digits have one width."""
  width, height = size
  path = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf' / 'DejaVuSans.ttf'
  return ImageFont.truetype(path, max(8, min(height // 16, width // 22)))
