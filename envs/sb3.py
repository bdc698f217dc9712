"""Tasks as Stable-Baselines3's `VecEnv`.

batch = VecEnv(envs.load('cheetah-run'), num_envs=8)
model = stable_baselines3.PPO('MlpPolicy', batch)
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from mjx_crossq.envs import base
from mjx_crossq.envs.vector import AutoresetMode, VectorEnv

try:
  from stable_baselines3.common import vec_env  # pyright: ignore
except ImportError as error:
  raise ImportError(
    "stable-baselines3 is missing; pip install 'mjx-crossq[sb3]'"
  ) from error


class VecEnv(vec_env.VecEnv):
  """Environments of one task, batched on the device.

  Infos are those of SB3's own environments under its `Monitor`: `episode` with
  the return `r`, the length `l` and the seconds `t` at an episode's end, and
  beside it `terminal_observation` and `TimeLimit.truncated`.

  Attributes:
    task: the environment that is batched.
  """

  def __init__(
    self, task: base.Env, num_envs: int = 1, seed: int | None = None, **kwargs
  ):
    """Builds the batch; `reset` begins the first episodes.

    Args:
      task: of the suite, or any other.
      num_envs: how many.
      seed: of the first environment, whose others follow; `seed` sets another.
      **kwargs: `max_episode_steps`, `render_mode`, `size` of `VectorEnv`.
    """
    self.task = task
    self._batch = VectorEnv(
      task, num_envs, autoreset_mode=AutoresetMode.SAME_STEP, **kwargs
    )
    self._start = time.monotonic()
    self._actions: Any = None
    super().__init__(
      num_envs,
      self._batch.single_observation_space,
      self._batch.single_action_space,
    )
    self.seed(seed)

  def reset(self) -> np.ndarray:
    """Begins episodes: observations `(num_envs, observation_size)`."""
    given = any(seed is not None for seed in self._seeds)
    obs, _ = self._batch.reset(seed=self._seeds if given else None)
    self._reset_seeds()
    return obs

  def step_async(self, actions: np.ndarray) -> None:
    """Takes actions `(num_envs, action_size)` in [-1, 1] for `step_wait`."""
    self._actions = actions

  def step_wait(self) -> Any:
    """One control step: observations, rewards, dones and infos."""
    obs, rewards, terminated, truncated, batched = self._batch.step(
      self._actions
    )
    dones = terminated | truncated
    infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
    for row in np.flatnonzero(dones):
      episode = batched['final_info']['episode']
      infos[row] = {
        'terminal_observation': batched['final_obs'][row],
        'TimeLimit.truncated': bool(truncated[row]),
        'episode': {
          'r': float(episode['r'][row]),
          'l': int(episode['l'][row]),
          't': time.monotonic() - self._start,
        },
      }
    return obs, rewards.astype(np.float32), dones, infos

  def get_images(self) -> Sequence[np.ndarray | None]:
    """A picture of each environment, with `render_mode='rgb_array'`."""
    return self._batch.render() or [None] * self.num_envs

  def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
    """An attribute of the batch, once for each environment."""
    return self._of(indices, getattr(self._batch, attr_name))

  def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
    """Refused: the environments are one batch."""
    raise AttributeError(f'{attr_name}: the environments are one batch')

  def env_method(
    self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
  ) -> list[Any]:
    """Refused: the environments are one batch."""
    raise AttributeError(f'{method_name}: the environments are one batch')

  def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list:
    """Whether each has a wrapper of gymnasium's, such as `Monitor`: none."""
    return self._of(indices, False)

  def _of(self, indices: Any, value: Any) -> list[Any]:
    return [value for _ in self._get_indices(indices)]

  def close(self) -> None:
    """Frees the simulation's memory."""
    self._batch.close()
