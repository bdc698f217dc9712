"""Returns of a policy in stock dm_control, simulated by C on the host.

The return in this project's own environment is `Runner.evaluate`.
"""

import os
from concurrent import futures
from typing import Any

import numpy as np

from envs.base import Env, flatten_observation
from mjx_crossq.runner import Runner
from mjx_crossq.states import Network


class StockEvaluation:
  """Episodes in stock environments, all in step with each other.

  One batched query of the policy serves every episode of every seed; threads
  step the environments (MuJoCo releases the interpreter lock).
  """

  def __init__(self, runner: Runner, env: Env):
    """Makes one stock environment for each seed and episode.

    Args:
      runner: acts, and says which seeds and how many episodes.
      env: a task with a stock environment.
    """
    self._runner = runner
    self._env = env
    count = len(runner.seeds) * runner.config.eval_episodes
    self._stock: list[Any] = [env.stock_env(0) for _ in range(count)]

  def returns(self, policy: Network, step: int) -> np.ndarray:
    """Returns of the deterministic policy.

    Args:
      policy: actors of all seeds.
      step: env step of the policy; with seed and episode it decides the
        initial state.

    Returns:
      Undiscounted returns, `(num_seeds, eval_episodes)`.
    """
    c = self._runner.config
    for index, env in enumerate(self._stock):
      row, episode = divmod(index, c.eval_episodes)
      seed = [self._runner.seeds[row], step, episode]
      env.task.random.seed(np.random.SeedSequence(seed).generate_state(1))
    total = np.zeros(len(self._stock))
    low, high = self._env.action_range

    def decide(env, action, timestep):
      """Repeats the action; an episode that has ended stays so."""
      reward = 0.0
      for _ in range(c.action_repeat):
        if timestep.last():
          break
        timestep = env.step(action)
        reward += timestep.reward
      return timestep, reward

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      timesteps = list(pool.map(lambda env: env.reset(), self._stock))
      for _ in range(self._env.episode_length // c.action_repeat):
        obs = [flatten_observation(t.observation) for t in timesteps]
        stacked = np.stack(obs).reshape(c.num_seeds, c.eval_episodes, -1)
        action = self._runner.act(policy, stacked).astype(np.float64)
        action = low + (action + 1) / 2 * (high - low)
        actions = action.reshape(len(self._stock), -1)
        results = pool.map(decide, self._stock, actions, timesteps)
        timesteps, rewards = zip(*results, strict=True)
        total += rewards
    return total.reshape(c.num_seeds, c.eval_episodes)
