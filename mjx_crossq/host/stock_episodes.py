"""Episodes of a policy in stock environments, at the same time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from mjx_crossq.envs.base import flatten_observation

Watch = Callable[[int, Any, float], None]
"""Receives an episode's index, stock environment and the last reward."""


def seed_episode(stock: Any, seed: int, step: int, episode: int) -> None:
  """Seeds an environment so that its next reset begins an episode to evaluate.

  Args:
    stock: a stock environment.
    seed: seed of the run.
    step: env step of the policy.
    episode: index of the episode in the evaluation.
  """
  entropy = np.random.SeedSequence([seed, step, episode])
  stock.task.random.seed(entropy.generate_state(1))


def play(
  stock: Sequence[Any],
  act: Callable[[np.ndarray], np.ndarray],
  *,
  action_range: tuple[np.ndarray, np.ndarray],
  action_repeat: int,
  length: int,
  each: Callable[..., Iterable[Any]] = map,
  watch: Watch | None = None,
) -> np.ndarray:
  """Plays an episode in each environment.

  Args:
    stock: stock environments, which are seeded.
    act: gives actions in [-1, 1], `(episodes, action_size)`, for observations
      `(episodes, observation_size)`.
    action_range: lowest and highest action of the environments.
    action_repeat: env steps of a decision.
    length: number of env steps at most.
    each: applies a function to all episodes, like `map`.
    watch: called at every state of an episode, the initial one included, with
      the reward of the last env step (0 at first).

  Returns:
    Undiscounted returns, `(episodes,)`.
  """
  low, high = action_range
  indices = range(len(stock))
  total = np.zeros(len(stock))

  def begin(index):
    timestep = stock[index].reset()
    if watch:
      watch(index, stock[index], 0.0)
    return timestep

  def decide(index, action, timestep, repeat):
    """Repeats the action until the episode ends."""
    env, reward = stock[index], 0.0
    for _ in range(repeat):
      if timestep.last():
        break
      timestep = env.step(action)
      reward += timestep.reward
      if watch:
        watch(index, env, timestep.reward)
    return timestep, reward

  timesteps = list(each(begin, indices))
  for done in range(0, length, action_repeat):
    obs = np.stack([flatten_observation(t.observation) for t in timesteps])
    action = low + (act(obs).astype(np.float64) + 1) / 2 * (high - low)
    repeats = [min(action_repeat, length - done)] * len(stock)
    results = each(decide, indices, action, timesteps, repeats)
    timesteps, rewards = zip(*results, strict=True)
    total += rewards
  return total
