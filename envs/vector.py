"""Tasks as `gymnasium.vector.VectorEnv`: many environments at once.

    batch = VectorEnv(envs.load('cheetah-run'), num_envs=64)
    obs, infos = batch.reset(seed=0)

What they return is what a `SyncVectorEnv` of as many `envs.gym.Env` returns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from mjx_crossq.envs import base, batches, pictures

try:
  import gymnasium  # pyright: ignore
  from gymnasium import vector  # pyright: ignore
  from gymnasium.vector import utils  # pyright: ignore
except ImportError as error:
  raise ImportError(
    "gymnasium is missing; pip install 'mjx-crossq[gymnasium]'"
  ) from error

AutoresetMode = vector.AutoresetMode
RENDER_MODES = ('rgb_array',)


class VectorEnv(vector.VectorEnv):
  """Environments of one task, batched on the device.

  Actions are in [-1, 1]. An episode is truncated at its time limit, and
  terminated only by a task that ends by itself; never both at once.

  Environment `i` after `reset(seed=s)` begins as a single one does after
  `reset(seed=s + i)`; later episodes follow from that seed too.

  Attributes:
    task: the environment that is batched.
  """

  def __init__(
    self,
    task: base.Env,
    num_envs: int = 1,
    *,
    arrays: str = 'numpy',
    autoreset_mode: Any = AutoresetMode.NEXT_STEP,
    max_episode_steps: int | None = None,
    record_episodes: bool = True,
    render_mode: str | None = None,
    size: tuple[int, int] = (320, 240),
  ):
    """Builds the batch; `reset` begins the first episodes.

    Args:
      task: of the suite, or any other.
      num_envs: how many.
      arrays: 'numpy', where rewards are float64 as gymnasium's own are; or
        'jax', where the host waits for the device only if the task terminates.
      autoreset_mode: gymnasium's; by default the step after an episode's end
        resets, ignores its action and pays 0.
      max_episode_steps: time limit instead of the task's own.
      record_episodes: whether infos have `episode` at an episode's end, with
        the return `r` and length `l`. gymnasium's `RecordEpisodeStatistics`
        adds it too, and refuses a second.
      render_mode: 'rgb_array', so that `render` draws; None for no pictures.
      size: width and height of a picture, in pixels.

    Raises:
      ValueError: there is no such kind of arrays, autoreset mode, number or
        render mode, or the task has no MuJoCo model to draw.
    """
    limit = max_episode_steps
    limit = task.episode_length if limit is None else limit
    if min(num_envs, limit) < 1:
      raise ValueError(f'{num_envs=}, max_episode_steps={limit}: at least 1')
    if arrays not in ('numpy', 'jax'):
      raise ValueError(f"arrays={arrays!r}: it is 'numpy' or 'jax'")
    self.task = task
    self.num_envs = num_envs
    self._mode = AutoresetMode(autoreset_mode)
    self._limit = limit
    self._record = record_episodes
    self._numpy = arrays == 'numpy'
    self._xp: Any = np if self._numpy else jnp
    self.metadata = {
      'render_modes': [*RENDER_MODES],
      'autoreset_mode': self._mode,
      'jax': not self._numpy,
    }
    if render_mode not in (None, *RENDER_MODES):
      raise ValueError(f"{render_mode=}: it is 'rgb_array' or None")
    self.render_mode = render_mode
    self.pictures = None
    if render_mode:
      self.pictures = pictures.Pictures(task, size)
      self.metadata['render_fps'] = round(1 / self._period)
    box = gymnasium.spaces.Box
    length: Any = task.observation_size
    obs = box(-np.inf, np.inf, (length,))
    action = box(-1.0, 1.0, (task.action_size,))
    self.single_observation_space, self.single_action_space = obs, action
    self.observation_space = utils.batch_space(obs, num_envs)
    self.action_space = utils.batch_space(action, num_envs)
    self._batch = batches.Batch(task, num_envs)
    self._returns: Any = self._xp.zeros(num_envs)
    self._over = np.zeros(num_envs, bool)

  def reset(
    self,
    *,
    seed: int | Sequence[int | None] | None = None,
    options: Mapping[str, Any] | None = None,
  ) -> tuple[Any, dict[str, Any]]:
    """Begins new episodes.

    Args:
      seed: of the first environment, whose others follow; or one for each.
      options: 'reset_mask', bool `(num_envs,)`, says which environments.

    Returns:
      Observations `(num_envs, observation_size)`, and no infos.

    Raises:
      ValueError: seeds or mask have another length.
    """
    single = isinstance(seed, int | np.integer)
    super().reset(seed=int(seed) if single else None)  # pyright: ignore
    n = self.num_envs
    rows = np.array((options or {}).get('reset_mask', np.ones(n)), bool)
    seeds: Any = [None] * n if seed is None else seed
    seeds = [int(seeds) + i for i in range(n)] if single else list(seeds)
    if len(seeds) != n or rows.shape != (n,):
      raise ValueError(
        f'{len(seeds)} seeds and a reset_mask {rows.shape} for {n} environments'
      )
    rows |= self._batch.state is None
    self._batch.seed(rows, seeds, self.np_random)
    self._begin(rows)
    self._over &= ~rows
    return self._array(self._batch.state.obs), {}

  def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
    """Takes one control step.

    Args:
      actions: `(num_envs, action_size)` in [-1, 1].

    Returns:
      Observations, rewards, terminations, truncations, infos.

    Raises:
      ValueError: the actions are of another shape.
      gymnasium.error.ResetNeeded: an environment is not in an episode.
    """
    shape = self.action_space.shape
    if np.shape(actions) != shape:
      raise ValueError(f'actions {np.shape(actions)}; take {shape}')
    disabled = self._mode is AutoresetMode.DISABLED
    if self._batch.state is None or (disabled and self._over.any()):
      raise gymnasium.error.ResetNeeded('Call reset before step.')
    idle = self._over & (self._mode is AutoresetMode.NEXT_STEP)
    self._batch.step(actions, idle)
    reward = self._array(self._batch.state.reward)
    if idle.any():
      reward, self._returns = (
        self._xp.where(idle, 0.0, x) for x in (reward, self._returns)
      )
    self._returns = self._returns + reward
    terminated = self._batch.terminated() & ~idle
    truncated = (self._batch.steps >= self._limit) & ~terminated
    self._over = terminated | truncated
    infos = self._finish() if self._over.any() else {}
    obs, terminated, truncated = (
      self._array(x) for x in (self._batch.state.obs, terminated, truncated)
    )
    reward = reward.astype(np.float64) if self._numpy else reward
    return obs, reward, terminated, truncated, infos

  @property
  def _period(self) -> float:
    """Seconds of a control step."""
    return float(self.task.control_timestep)  # pyright: ignore

  def render(self) -> tuple[np.ndarray, ...] | None:
    """A picture of each environment: uint8, `(height, width, 3)`.

    None without a `render_mode`.

    Raises:
      gymnasium.error.ResetNeeded: there is no episode.
    """
    if self.pictures is None:
      return None
    return tuple(map(self._draw, range(self.num_envs)))

  def _draw(self, row: int) -> np.ndarray:
    self.place(row)
    assert self.pictures
    return self.pictures.draw()

  def place(self, row: int) -> None:
    """Puts the physics of the pictures into the state of an environment.

    Args:
      row: which.

    Raises:
      gymnasium.error.ResetNeeded: there is no episode.
    """
    if self._batch.state is None:
      raise gymnasium.error.ResetNeeded('Call reset before render.')
    seconds = float(self._batch.steps[row]) * self._period
    assert self.pictures
    self.pictures.place(self._batch.state, row, seconds)

  def close_extras(self, **kwargs: Any) -> None:
    """Frees the simulation's memory, and closes the window."""
    self._batch.state = None
    if self.pictures:
      self.pictures.close()

  def _begin(self, rows: np.ndarray) -> None:
    """Begins the next episode of some environments."""
    self._batch.begin(rows)
    self._returns = self._xp.where(rows, 0.0, self._returns)

  def _finish(self) -> dict[str, Any]:
    """The infos of finished episodes, and the start of the next ones."""
    over, final = self._array(self._over), {}
    if self._record:
      length = self._array(np.where(self._over, self._batch.steps, 0))
      returns = self._xp.where(over, self._returns, 0.0)
      episode = {'r': returns, '_r': over, 'l': length, '_l': over}
      final = {'episode': episode, '_episode': over}
    if self._mode is not AutoresetMode.SAME_STEP:
      return final
    obs = self._array(self._batch.state.obs)
    if self._numpy:  # gymnasium's wrappers expect this form.
      rows, obs = obs, np.full(self.num_envs, None, object)
      for i in np.flatnonzero(over):
        obs[i] = rows[i]
    self._begin(self._over)
    infos = {'final_obs': obs, '_final_obs': over}
    return final | infos | {'final_info': final, '_final_info': over}

  def _array(self, x: Any) -> Any:
    """An array of the chosen kind; a NumPy array is a copy for the caller."""
    return np.array(x) if self._numpy else jnp.asarray(x)
