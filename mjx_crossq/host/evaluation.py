"""Episodes of a policy in stock dm_control, simulated by C on the host.

The return in this project's own environment is `Runner.evaluate`.
"""

import os
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from mjx_crossq.device.runner import Runner
from mjx_crossq.envs.base import Env, flatten_observation
from mjx_crossq.learner.states import Network

Cell = tuple[int, int]
"""A row of the seeds, and an episode of an evaluation."""

Watch = Callable[[int, Any, float], None]
"""Sees an episode's index, stock environment and the last step's reward."""


class StockEpisodes:
  """Stock environments that play one episode each, all in step.

  One batched query of the policy serves every episode; threads step the
  environments (MuJoCo releases the interpreter lock). The query has the shape
  of an evaluation whichever episodes are played, so that an episode has the
  same bits in any company.
  """

  def __init__(self, runner: Runner, env: Env, count: int):
    """Makes the stock environments.

    Args:
      runner: acts, and says which seeds and how many episodes.
      env: a task with a stock environment.
      count: how many episodes are played at a time.
    """
    self.runner = runner
    self._env = env
    self.stock: list[Any] = [env.stock_env(0) for _ in range(count)]

  def play(
    self,
    policy: Network,
    step: int,
    cells: Sequence[Cell],
    watch: Watch | None = None,
    env_steps: int | None = None,
  ) -> np.ndarray:
    """Plays episodes with the deterministic policy.

    Args:
      policy: actors of all seeds.
      step: env step of the policy; with seed and episode it decides the
        initial state.
      cells: what each environment plays.
      watch: is shown every state of an episode, the initial one included, with
        the reward of the env step before (0 at first). Episodes call it from
        threads of their own; what it raises ends the play.
      env_steps: stop after as many; None plays whole episodes.

    Returns:
      Undiscounted returns, one for each cell.
    """
    c = self.runner.config
    rows, episodes = np.array(cells).T
    for env, (row, episode) in zip(self.stock, cells, strict=True):
      seed_episode(env, self.runner.seeds[row], step, episode)
    length = self._env.episode_length
    if env_steps is not None:
      length = min(length, env_steps)
    total = np.zeros(len(self.stock))
    low, high = self._env.action_range

    def begin(index):
      timestep = self.stock[index].reset()
      if watch:
        watch(index, self.stock[index], 0.0)
      return timestep

    def decide(index, action, timestep, repeat):
      """Repeats the action; an episode that has ended stays so."""
      env, reward = self.stock[index], 0.0
      for _ in range(repeat):
        if timestep.last():
          break
        timestep = env.step(action)
        reward += timestep.reward
        if watch:
          watch(index, env, timestep.reward)
      return timestep, reward

    indices = range(len(self.stock))
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      timesteps = list(pool.map(begin, indices))
      for done in range(0, length, c.action_repeat):
        obs = np.stack([flatten_observation(t.observation) for t in timesteps])
        asked = np.zeros(
          (len(self.runner.seeds), c.eval_episodes, obs.shape[1]), obs.dtype
        )
        asked[rows, episodes] = obs
        action = self.runner.act(policy, asked)[rows, episodes]
        action = low + (action.astype(np.float64) + 1) / 2 * (high - low)
        repeats = [min(c.action_repeat, length - done)] * len(self.stock)
        results = pool.map(decide, indices, action, timesteps, repeats)
        timesteps, rewards = zip(*results, strict=True)
        total += rewards
    return total


def seed_episode(stock: Any, seed: int, step: int, episode: int) -> None:
  """Makes the next reset the start of an evaluation's episode.

  Args:
    stock: a stock environment.
    seed: the run's.
    step: env step of the policy.
    episode: of the evaluation.
  """
  entropy = np.random.SeedSequence([seed, step, episode])
  stock.task.random.seed(entropy.generate_state(1))


class StockEvaluation:
  """The episodes of an evaluation, for all seeds."""

  def __init__(self, runner: Runner, env: Env):
    """Makes one stock environment for each seed and episode.

    Args:
      runner: acts, and says which seeds and how many episodes.
      env: a task with a stock environment.
    """
    self._shape = len(runner.seeds), runner.config.eval_episodes
    self._cells = list(np.ndindex(self._shape))
    self._episodes = StockEpisodes(runner, env, len(self._cells))

  def returns(self, policy: Network, step: int) -> np.ndarray:
    """Returns of the deterministic policy.

    Args:
      policy: actors of all seeds.
      step: env step of the policy; with seed and episode it decides the
        initial state.

    Returns:
      Undiscounted returns, `(num_seeds, eval_episodes)`.
    """
    returns = self._episodes.play(policy, step, self._cells)
    return returns.reshape(self._shape)
