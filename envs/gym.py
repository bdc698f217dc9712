"""Tasks as `gymnasium.Env`, and by name through `gymnasium.make`.

Importing the module makes the tasks known, so that gymnasium can do it:

env = gymnasium.make('mjx_crossq.envs.gym:mjx_crossq/cheetah-run-v0')
batch = gymnasium.make_vec('mjx_crossq/cheetah-run-v0', num_envs=64)
"""

from typing import Any

import numpy as np

from mjx_crossq import envs
from mjx_crossq.envs import base, forks
from mjx_crossq.envs.pictures import require_display
from mjx_crossq.envs.vector import AutoresetMode, VectorEnv, gymnasium

RENDER_MODES = ['rgb_array', 'human']
NAMESPACE = 'mjx_crossq'
"""Namespace of the tasks in `gymnasium.make`, before the slash."""


class Env(gymnasium.Env):
  """One environment of a task; actions are in [-1, 1].

  It simulates a single environment; a `VectorEnv` is much faster on a device.

  Attributes:
    task: the environment behind it.
  """

  metadata = {'render_modes': RENDER_MODES}  # noqa: RUF012  gymnasium's type

  def __init__(
    self,
    task: base.Env,
    record_episodes: bool = True,
    render_mode: str | None = None,
    size: tuple[int, int] = (320, 240),
  ):
    """Builds the environment; `reset` begins the first episode.

    Args:
      task: of the suite, or any other.
      record_episodes: whether the last step's info has `episode`, with the
        return `r` and the length `l`.
      render_mode: 'rgb_array', so that `render` draws; 'human', a window that
        shows each state in real time; None for no pictures.
      size: width and height of a picture, in pixels.

    Raises:
      ValueError: there is no such render mode, or the task has no MuJoCo model
        to draw.
      RuntimeError: there is no display for a window, or JAX would hang in this
        process; see `forks`.
    """
    self.task = task
    self.render_mode = render_mode
    if human := render_mode == 'human':
      require_display()
    self._batch = VectorEnv(
      task,
      autoreset_mode=AutoresetMode.DISABLED,
      record_episodes=record_episodes,
      render_mode='rgb_array' if human else render_mode,
      size=size,
    )
    self.metadata = {**self._batch.metadata, 'render_modes': RENDER_MODES}
    _spaces[task.name] = (
      self._batch.single_observation_space,
      self._batch.single_action_space,
    )
    self.observation_space = self._batch.single_observation_space
    self.action_space = self._batch.single_action_space
    self._fresh = True

  def reset(
    self, *, seed: int | None = None, options: dict[str, Any] | None = None
  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Begins an episode.

    Args:
      seed: makes it and those that follow reproducible.
      options: there are none.

    Returns:
      The observation `(observation_size,)`, and no info.
    """
    super().reset(seed=seed)
    if seed is None and self._fresh:
      seed = int(self.np_random.integers(2**32))
    self._fresh = False
    obs, _ = self._batch.reset(seed=seed)
    self._show()
    return obs[0], {}

  def step(
    self, action: Any
  ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Takes one control step.

    Args:
      action: `(action_size,)` in [-1, 1].

    Returns:
      Observation, reward, whether it terminated, whether it was truncated,
      info.

    Raises:
      gymnasium.error.ResetNeeded: there is no episode.
    """
    obs, reward, terminated, truncated, infos = self._batch.step(
      np.asarray(action)[None]
    )
    self._show()
    info = {}
    if 'episode' in infos:
      episode = infos['episode']
      info = {
        'episode': {'r': float(episode['r'][0]), 'l': int(episode['l'][0])}
      }
    return (
      obs[0],
      float(reward[0]),
      bool(terminated[0]),
      bool(truncated[0]),
      info,
    )

  def render(self) -> np.ndarray | None:
    """A picture, uint8 `(height, width, 3)`; None unless by 'rgb_array'.

    Raises:
      gymnasium.error.ResetNeeded: there is no episode.
    """
    if self.render_mode != 'rgb_array':
      return None
    drawn = self._batch.render()
    return drawn[0] if drawn else None

  def _show(self) -> None:
    """Shows the state in the window, if there is one."""
    if self.render_mode == 'human' and (pictures := self._batch.pictures):
      self._batch.place(0)
      pictures.show(1 / self.metadata['render_fps'])

  def close(self) -> None:
    """Frees the simulation's memory."""
    self._batch.close()


_spaces: dict[str, tuple[Any, Any]] = {}
"""Spaces of the tasks that this process, or its parent before a fork, made."""


class _Forked(gymnasium.Env):
  """Takes the place of an `Env` in a forked process, where JAX would hang.

  An `AsyncVectorEnv` shows what `reset` raises, but not what a constructor
  does.
  """

  metadata = Env.metadata

  def __init__(self, task: str):
    self.observation_space, self.action_space = _spaces[task]

  def reset(self, **_: Any) -> Any:
    forks.check()


def make(
  task: str,
  physics: str = 'mjx',
  allow_unfaithful: bool = False,
  record_episodes: bool = False,
  render_mode: str | None = None,
  size: tuple[int, int] = (320, 240),
) -> gymnasium.Env:
  """Entry point of `gymnasium.make`; see `envs.load` and `Env`.

  `record_episodes` is off, because gymnasium's wrappers record episodes.
  """
  if forks.forked() and task in _spaces:
    return _Forked(task)
  env = envs.load(task, allow_unfaithful, physics)
  return Env(env, record_episodes, render_mode, size)


make.metadata = Env.metadata  # pyright: ignore  gymnasium.make reads it there


def make_vec(
  task: str,
  num_envs: int = 1,
  physics: str = 'mjx',
  allow_unfaithful: bool = False,
  record_episodes: bool = False,
  **settings: Any,
) -> VectorEnv:
  """Entry point of `gymnasium.make_vec`; see `envs.load` and `VectorEnv`.

  `record_episodes` is off, because gymnasium's wrappers record episodes. The
  other settings are those of `VectorEnv`, which refuses unknown ones.
  """
  env = envs.load(task, allow_unfaithful, physics)
  return VectorEnv(env, num_envs, record_episodes=record_episodes, **settings)


def register_all() -> None:
  """Makes all tasks known to gymnasium, as 'mjx_crossq/<task>-v0'.

  Importing this module calls it; call it again after `envs.register`.
  """
  for task in envs.ALL_TASKS:
    name = f'{NAMESPACE}/{task}-v0'
    if name not in gymnasium.registry:
      gymnasium.register(
        name,
        entry_point='mjx_crossq.envs.gym:make',
        vector_entry_point='mjx_crossq.envs.gym:make_vec',
        kwargs={'task': task},
      )


register_all()
