"""What the host measures of a policy at a stop."""

import time
from collections.abc import Callable

import numpy as np

from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs.base import Env
from mjx_crossq.host.evaluation import StockEvaluation
from mjx_crossq.host.run_files import RunFiles
from mjx_crossq.host.variant_files import VariantFiles


class Evaluation:
  """Evaluates in both physics and writes what it finds."""

  def __init__(
    self, runner: Runner, env: Env, files: RunFiles | VariantFiles | None
  ):
    """Makes the stock environments, if the task has any.

    Args:
      runner: the compiled programs.
      env: the environment.
      files: where the returns are written; None writes nothing.
    """
    self._runner = runner
    self._files = files
    self._stock = None
    if has_stock(env):
      self._stock = StockEvaluation(runner, env)

  def __call__(self, state: TrainState, step: int) -> dict[str, np.ndarray]:
    """Returns `(num_seeds, eval_episodes)` by physics."""
    policy = state.agent.actor.network
    returns = {self._runner.config.physics: self._runner.evaluate(policy, step)}
    if self._stock:
      returns['dm_control'] = self._stock.returns(policy, step)
    if self._files:
      for physics, values in returns.items():
        self._files.write_returns(self._runner.seeds, step, physics, values)
    return returns


class Diagnosis:
  """Diagnoses, and says once what that costs."""

  def __init__(self, runner: Runner, report: Callable[[str], None]):
    """Compiles nothing yet.

    Args:
      runner: the compiled programs.
      report: receives a line for a person.
    """
    self._runner = runner
    self._report = report
    self._compiled = False

  def __call__(self, state: TrainState, step: int) -> dict[str, np.ndarray]:
    """Series `diag/...` of shape `(num_seeds,)`, as the state is."""
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


def has_stock(env: Env) -> bool:
  """Whether policies are scored in stock dm_control too."""
  return env.stock_env(0) is not None
