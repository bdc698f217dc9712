"""Tasks as `gymnasium.Env`, and by name through `gymnasium.make`.

envs.gym.register_all()
env = gymnasium.make('mjx_crossq/cheetah-run-v0')
batch = gymnasium.make_vec('mjx_crossq/cheetah-run-v0', num_envs=64)
"""

from typing import Any

import numpy as np

from mjx_crossq import envs
from mjx_crossq.envs import base
from mjx_crossq.envs.vector import AutoresetMode, VectorEnv, gymnasium

NAMESPACE = 'mjx_crossq'
"""Namespace of the tasks in `gymnasium.make`, before the slash."""


class Env(gymnasium.Env):
  """One environment of a task; actions are in [-1, 1].

  It simulates a single environment; a `VectorEnv` is much faster on a device.

  Attributes:
    task: the environment behind it.
  """

  metadata = {'render_modes': []}  # noqa: RUF012  gymnasium's type
  render_mode = None

  def __init__(self, task: base.Env, record_episodes: bool = True):
    """Builds the environment; `reset` begins the first episode.

    Args:
      task: of the suite, or any other.
      record_episodes: whether the last step's info has `episode`, with the
        return `r` and the length `l`.
    """
    self.task = task
    self._batch = VectorEnv(
      task,
      autoreset_mode=AutoresetMode.DISABLED,
      record_episodes=record_episodes,
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

  def close(self) -> None:
    """Frees the simulation's memory."""
    self._batch.close()


def make(
  task: str,
  physics: str = 'mjx',
  allow_unfaithful: bool = False,
  record_episodes: bool = False,
) -> Env:
  """Entry point of `gymnasium.make`; see `envs.load` and `Env`.

  `record_episodes` is off, because gymnasium's wrappers record episodes.
  """
  return Env(envs.load(task, allow_unfaithful, physics), record_episodes)


def make_vec(
  task: str,
  num_envs: int = 1,
  physics: str = 'mjx',
  allow_unfaithful: bool = False,
  arrays: str = 'numpy',
  autoreset_mode: Any = AutoresetMode.NEXT_STEP,
  max_episode_steps: int | None = None,
  record_episodes: bool = False,
) -> VectorEnv:
  """Entry point of `gymnasium.make_vec`; see `envs.load` and `VectorEnv`.

  `record_episodes` is off, because gymnasium's wrappers record episodes.
  """
  return VectorEnv(
    envs.load(task, allow_unfaithful, physics),
    num_envs,
    arrays=arrays,
    autoreset_mode=autoreset_mode,
    max_episode_steps=max_episode_steps,
    record_episodes=record_episodes,
  )


def register_all() -> None:
  """Makes all tasks known to gymnasium, as 'mjx_crossq/<task>-v0'.

  Call it again after `envs.register` to add new tasks.
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
