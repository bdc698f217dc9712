"""What is measured of a policy during a run: returns and diagnostics.

Returns are measured in this project's own environment, by a program on the
device, and in stock dm_control, which MuJoCo's C library simulates on the host.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import Any

import numpy as np

from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs.base import Env
from mjx_crossq.host import stock_episodes
from mjx_crossq.learner.states import Network

Cell = tuple[int, int]
"""A row of the seeds, and an episode of an evaluation."""


def has_stock(env: Env) -> bool:
  """Whether the task has a stock environment, in which policies are scored.

  Environments that have one override `Env.stock_env`.
  """
  return getattr(type(env), 'stock_env', None) is not Env.stock_env


class StockEpisodes:
  """Stock environments that play one episode each, at the same time.

  The policy is queried once per decision for all episodes; threads step the
  environments (MuJoCo releases the interpreter lock). The query has the shape
  of an evaluation whichever episodes are played, because the bits of an action
  depend on the size of the batch.
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
    watch: stock_episodes.Watch | None = None,
    env_steps: int | None = None,
  ) -> np.ndarray:
    """Plays episodes with the deterministic policy.

    Args:
      policy: actors of all seeds.
      step: env step of the policy; with seed and episode it determines the
        initial state.
      cells: the row and the episode that each environment plays.
      watch: called at every state of an episode, the initial one included, with
        the reward of the last env step (0 at first). It is called from several
        threads; an exception that it raises ends the episodes.
      env_steps: number of env steps; None plays complete episodes.

    Returns:
      Undiscounted returns, one for each cell.
    """
    c = self.runner.config
    rows, episodes = np.array(cells).T
    for env, (row, episode) in zip(self.stock, cells, strict=True):
      stock_episodes.seed_episode(env, self.runner.seeds[row], step, episode)
    length = self._env.episode_length
    if env_steps is not None:
      length = min(length, env_steps)

    def act(obs):
      query = np.zeros(
        (len(self.runner.seeds), c.eval_episodes, obs.shape[1]), obs.dtype
      )
      query[rows, episodes] = obs
      return self.runner.act(policy, query)[rows, episodes]

    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      return stock_episodes.play(
        self.stock,
        act,
        action_range=self._env.action_range,
        action_repeat=c.action_repeat,
        length=length,
        each=pool.map,
        watch=watch,
      )


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
      step: env step of the policy; with seed and episode it determines the
        initial state.

    Returns:
      Undiscounted returns, `(num_seeds, eval_episodes)`.
    """
    returns = self._episodes.play(policy, step, self._cells)
    return returns.reshape(self._shape)


class Evaluation:
  """Returns of policies in both physics."""

  def __init__(self, runner: Runner, env: Env, *, stock: bool = True):
    """Makes the stock environments, if the task has any.

    Args:
      runner: the compiled programs.
      env: the environment.
      stock: whether the episodes in stock dm_control are played here.
    """
    self._runner = runner
    self._stock = None
    if stock and has_stock(env):
      self._stock = StockEvaluation(runner, env)

  def __call__(self, policy: Network, step: int) -> dict[str, np.ndarray]:
    """Returns `(num_seeds, eval_episodes)` by physics.

    Args:
      policy: actors of all seeds.
      step: its env step.
    """
    returns = {self._runner.config.physics: self._runner.evaluate(policy, step)}
    if self._stock:
      returns['dm_control'] = self._stock.returns(policy, step)
    return returns


class Diagnosis:
  """Measures diagnostics, and reports once how long that takes."""

  def __init__(self, runner: Runner, report: Callable[[str], None]):
    """The program is compiled at the first call.

    Args:
      runner: the compiled programs.
      report: receives a line for a person.
    """
    self._runner = runner
    self._report = report
    self._compiled = False

  def __call__(self, state: TrainState, step: int) -> dict[str, np.ndarray]:
    """Series `diag/...` of a state, `(num_seeds,)` each."""
    runner = self._runner
    times = [time.monotonic()]
    if not self._compiled:
      runner.compile_diagnose(state)
      times.append(time.monotonic())
    found = runner.diagnose(state, step)
    times.append(time.monotonic())
    if not self._compiled:
      compiling, one = np.diff(times)
      self._report(
        f'diagnostics: {compiling:.0f} s to compile, and {one:.1f} s each '
        f'{runner.config.diagnostics_every:,} env steps'
      )
      self._compiled = True
    return {f'diag/{name}': values for name, values in found.items()}
