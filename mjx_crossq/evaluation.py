"""Returns of a policy in stock dm_control, simulated by C on the host.

The return in this project's own environment is `Runner.evaluate`.
"""

import os
from concurrent import futures

import numpy as np

from envs.base import Env, flatten_observation
from mjx_crossq.agent import Network
from mjx_crossq.runner import Runner


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
    c = runner.config
    self._runner = runner
    self._env = env
    self._stock = [
      [env.stock_env(0) for _ in range(c.eval_episodes)] for _ in runner.seeds
    ]

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
    flat = [env for row in self._stock for env in row]
    for index, env in enumerate(flat):
      row, episode = divmod(index, c.eval_episodes)
      seed = [self._runner.seeds[row], step, episode]
      env.task.random.seed(np.random.SeedSequence(seed).generate_state(1))
    total = np.zeros(len(flat))
    low, high = self._env.action_range

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      obs = list(pool.map(lambda env: _observe(env.reset()), flat))
      for _ in range(self._env.episode_length // c.action_repeat):
        stacked = np.stack(obs).reshape(c.num_seeds, c.eval_episodes, -1)
        action = self._runner.act(policy, stacked).astype(np.float64)
        action = low + (action + 1) / 2 * (high - low)

        def decide(env, action):
          reward = 0.0
          for _ in range(c.action_repeat):
            timestep = env.step(action)
            reward += timestep.reward
          return _observe(timestep), reward

        results = pool.map(decide, flat, action.reshape(len(flat), -1))
        obs, rewards = zip(*results, strict=True)
        total += rewards
    return total.reshape(c.num_seeds, c.eval_episodes)


def _observe(timestep) -> np.ndarray:
  return flatten_observation(timestep.observation)
