"""Pictures of an environment's states, drawn by dm_control."""

import os
import sys
import time
from typing import Any

import jax
import numpy as np

from mjx_crossq.envs import base, opengl, runtime

_CAMERAS = ('side', 'x')  # preferred to the model's first camera


class Pictures:
  """Draws states of one task.

  Attributes:
    physics: dm_control's `Physics` that is drawn.
  """

  def __init__(self, task: base.Env, size: tuple[int, int]):
    """Takes the stock task's model, or else the environment's own.

    Args:
      task: any that has a MuJoCo model.
      size: width and height, in pixels.

    Raises:
      ValueError: the task has no MuJoCo model.
    """
    self._task = task
    self._size = size
    with runtime.quiet():
      from dm_control import mujoco
      from dm_control.mujoco import wrapper
    opengl.choose_at_first_picture()
    stock = task.stock_env(seed=0)
    model = getattr(task, 'mj_model', None)
    self._stock = stock is not None
    if stock is not None:
      self.physics = stock.physics
    elif model is not None and hasattr(task, 'physics_states'):
      self.physics = mujoco.Physics.from_model(wrapper.MjModel(model))
    else:
      raise ValueError(f'{task.name} has no MuJoCo model and cannot be drawn')
    make_room(self.physics.model, size)
    self._camera: Any = preferred_camera(camera_names(self.physics.model))
    self._window: Any = None

  def place(self, states: Any, row: int, seconds: float) -> None:
    """Puts the physics into one of many states.

    Args:
      states: a batch of the task's.
      row: which of them.
      seconds: since its episode began.
    """
    if self._stock:
      one = jax.tree.map(lambda x: x[row], states)
      place(self._task, self.physics, one, seconds)
    else:
      own: Any = self._task
      with self.physics.reset_context():
        self.physics.set_state(own.physics_states(states)[row])
        self.physics.data.time = seconds

  def draw(self) -> np.ndarray:
    """The physics as uint8, `(height, width, 3)`."""
    width, height = self._size
    return self.physics.render(height, width, camera_id=self._camera)

  def show(self, period: float) -> None:
    """Shows the physics in a window, in real time.

    Args:
      period: seconds since the picture before.
    """
    if self._window is None:
      from mujoco import viewer

      model, data = self.physics.model.ptr, self.physics.data.ptr
      self._window, self._due = viewer.launch_passive(model, data), 0.0
    now = time.monotonic()
    self._due = max(self._due + period, now)
    time.sleep(self._due - now)
    self._window.sync()

  def close(self) -> None:
    """Closes the window, if there is one."""
    if self._window is not None:
      self._window.close()
      self._window = None


def make_room(model: Any, size: tuple[int, int]) -> None:
  """Enlarges a model's buffer for pictures where it is too small.

  Args:
    model: of a `Physics`.
    size: width and height, in pixels.
  """
  looks = model.vis.global_
  looks.offwidth = max(looks.offwidth, size[0])
  looks.offheight = max(looks.offheight, size[1])


def camera_names(model: Any) -> list[str]:
  """The names of a model's cameras, in their order."""
  return [model.id2name(i, 'camera') for i in range(model.ncam)]


def preferred_camera(names: list[str]) -> str | int:
  """A camera at the side, or else the first, or else -1, the free one."""
  return next((c for c in _CAMERAS if c in names), 0 if names else -1)


def place(task: Any, physics: Any, state: Any, seconds: float) -> None:
  """Puts the `Physics` of the stock task into the state of a task.

  Args:
    task: of the suite.
    physics: of its stock task.
    state: of the task.
    seconds: since its episode began.
  """
  with physics.reset_context():
    task.write_params(physics, state.info)
    for name in ('qpos', 'qvel', 'act'):
      getattr(physics.data, name)[:] = getattr(state, name)
    physics.data.time = seconds


def require_display() -> None:
  """Refuses a window where none can open.

  Raises:
    RuntimeError: there is no display.
  """
  if sys.platform.startswith('linux') and not (
    os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')
  ):
    raise RuntimeError(
      "render_mode='human' needs a display, and neither DISPLAY nor "
      "WAYLAND_DISPLAY is set; render_mode='rgb_array' draws without one"
    )
