"""The host's part of a run: start chunks, log, evaluate, checkpoint, stop."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from envs.base import Env
from mjx_crossq import config as config_lib
from mjx_crossq import plotting
from mjx_crossq.budget import Budget
from mjx_crossq.checkpoint import Checkpointer
from mjx_crossq.config import SCHEDULE_FIELDS, Config, ConfigError
from mjx_crossq.evaluation import StockEvaluation
from mjx_crossq.logging import (
  Progress,
  RunFiles,
  evaluation_line,
  result_table,
)
from mjx_crossq.runner import Runner
from mjx_crossq.states import Network
from mjx_crossq.trainer import TrainState, mean_metrics

Report = Callable[[str], None]
_COMPILING = 'compiling (a minute on a CPU, less when it was compiled before)'


@dataclasses.dataclass(frozen=True)
class Result:
  """What a run gives back.

  Attributes:
    config: the configuration.
    state: the final state of all seeds.
    returns: the last evaluation, `(num_seeds, eval_episodes)` by physics
      (`mjx`, and `dm_control` where the task has a stock environment).
    workdir: where the files are, or None.
    runner: the compiled programs, to act or go on with.
  """

  config: Config
  state: TrainState
  returns: dict[str, np.ndarray]
  workdir: Path | None
  runner: Runner

  @property
  def policy(self) -> Network:
    """The actors of all seeds, for `runner.act`."""
    return self.state.agent.actor.network


def train(
  config: Config,
  env: Env,
  workdir: str | Path | None = None,
  resume: bool = False,
  report: Report = print,
) -> Result:
  """Trains all seeds of a run in one program.

  Args:
    config: the configuration.
    env: the environment.
    workdir: where to write; None writes nothing.
    resume: go on from the newest complete checkpoint of `workdir`, if any.
    report: receives lines for a person.

  Returns:
    The final state and returns.

  Raises:
    ConfigError: before anything is compiled or written, if the run cannot
      work as asked.
  """
  runner = Runner(config, env)
  Budget.of(runner.abstract_state()).check()
  if workdir is None:
    report(_COMPILING)
    state = runner.init()
    return _run(runner, env, state, None, None, report)

  workdir = Path(workdir)
  prepare_workdir(workdir, config, resume)
  report(_COMPILING)
  with Checkpointer(workdir / 'checkpoints') as checkpointer:
    steps = checkpointer.steps()
    if steps:
      state = checkpointer.restore(steps[-1], runner.abstract_state())
      report(f'resuming {workdir} at env step {steps[-1]:,}')
    else:
      state = runner.init()
    resumed_at = steps[-1] if steps else 0
    with RunFiles(workdir, config, resumed_at) as files:
      result = _run(runner, env, state, files, checkpointer, report)
  plotting.learning_curve(
    workdir / 'eval.csv',
    f'{config.task}, {config.preset}',
    workdir / 'learning_curve.png',
  )
  return dataclasses.replace(result, workdir=workdir)


def prepare_workdir(workdir: Path, config: Config, resume: bool) -> None:
  """Makes the folder, or refuses it before anything in it is touched.

  Raises:
    ConfigError: if it holds something else, a run that was not to be
      resumed, or a run with another configuration; or cannot be written.
  """
  try:
    entries = list(workdir.iterdir()) if workdir.exists() else []
    if not (workdir / 'config.json').exists():
      if entries:
        raise ConfigError(
          f'{workdir} is not empty and holds no run; choose another --workdir'
        )
      workdir.mkdir(parents=True, exist_ok=True)
      probe = workdir / '.writable'
      probe.touch()
      probe.unlink()
      return
  except OSError as error:
    raise ConfigError(f'cannot write to {workdir}: {error.strerror}') from None
  if not resume:
    raise ConfigError(
      f'{workdir} already holds a run; add --resume to go on with it, or '
      'choose another --workdir'
    )
  check_continuable(workdir, config)


def check_continuable(workdir: Path, config: Config) -> None:
  """Refuses to go on with a run as another one.

  Args:
    workdir: the folder of a run.
    config: with which it is to go on.

  Raises:
    ConfigError: it was started with other settings, or its `config.json`
      cannot be read.
  """
  path = workdir / 'config.json'
  try:
    saved, _ = config_lib.load(path)
  except (ValueError, KeyError, TypeError) as error:
    raise ConfigError(f'{path} cannot be read: {error}') from None
  differ = [
    f'{name} ({value!r} there, {getattr(config, name)!r} here)'
    for name, value in saved.to_dict().items()
    if name not in SCHEDULE_FIELDS and value != getattr(config, name)
  ]
  if differ:
    raise ConfigError(
      f'{workdir} was started with other settings: {", ".join(differ)}'
    )


def _run(
  runner: Runner,
  env: Env,
  state: TrainState,
  files: RunFiles | None,
  checkpointer: Checkpointer | None,
  report: Report,
) -> Result:
  """The loop from stop to stop; a stop is where the host has work to do."""
  c = runner.config
  iteration = int(state.iteration)
  if iteration >= c.iterations:  # nothing left to do: only say how it ended
    evaluation = Evaluation(runner, env, None)
    returns = evaluation(state, iteration * c.steps_per_iteration)
  else:
    start = time.monotonic()
    state, sums = runner.train_chunk(state, iteration)  # no iteration: compiles
    jax.block_until_ready(sums)
    report(f'compiled the training program in {time.monotonic() - start:.0f} s')
    evaluation = Evaluation(runner, env, files)
    returns = {}
  diagnosis = Diagnosis(runner, report)
  progress = Progress(c, iteration)

  while iteration < c.iterations:
    stop = next_stop(c, iteration)
    start = time.monotonic()
    state, sums = runner.train_chunk(state, stop)
    sums = jax.device_get(sums)  # waits for the chunk
    speeds = progress.speeds(stop, time.monotonic() - start)
    iteration, step = stop, stop * c.steps_per_iteration

    last_returns = np.asarray(state.rollout.last_return).mean(axis=1)
    measured = _train_metrics(sums, last_returns)
    if c.diagnostics_every and _due(c.diagnostics_every, c, iteration):
      measured |= diagnosis(state, step)
    if files:
      files.write_metrics(_records(runner, iteration, measured, speeds))
    report(progress.line(iteration, speeds, last_returns))
    if _due(c.eval_every, c, iteration):
      returns = evaluation(state, step)
      report(evaluation_line(step, returns))
    if checkpointer and _due(c.checkpoint_every, c, iteration):
      checkpointer.save(step, state)

  report(f'return in {c.eval_episodes} episodes, mean +- std:')
  report(result_table(runner.seeds, returns))
  return Result(c, state, returns, None, runner)


class Evaluation:
  """Evaluates in both physics and writes what it finds."""

  def __init__(self, runner: Runner, env: Env, files: RunFiles | None):
    """Makes the stock environments, if the task has any.

    Args:
      runner: the compiled programs.
      env: the environment.
      files: where the returns are written; None writes nothing.
    """
    self._runner = runner
    self._files = files
    self._stock = None
    if env.stock_env(0) is not None:
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

  def __init__(self, runner: Runner, report: Report):
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


def next_stop(config: Config, iteration: int) -> int:
  """The next iteration at which the host has work to do.

  Stops are multiples of the intervals, so they are the same in a resumed run.
  """
  stops = [config.iterations]
  for every in (
    config.log_every,
    config.eval_every,
    config.checkpoint_every,
    config.diagnostics_every,
  ):
    if every:
      interval = _interval(every, config)
      stops.append((iteration // interval + 1) * interval)
  return min(stops)


def _due(every: int, config: Config, iteration: int) -> bool:
  """Whether something is due: at multiples of its interval and at the end."""
  at_end = iteration == config.iterations
  return at_end or bool(every and iteration % _interval(every, config) == 0)


def _interval(every: int, config: Config) -> int:
  """An interval of env steps in whole iterations, at least one."""
  return -(-every // config.steps_per_iteration)


def _train_metrics(sums, last_returns):
  """What a chunk of training measured, by the series' names."""
  found = {'train/episode_return': last_returns}
  for name, values in mean_metrics(sums).items():
    found[f'train/{name}'] = values
  return found


def _records(runner, iteration, measured, speeds):
  """One record for each seed of a log point."""
  c = runner.config
  for index, seed in enumerate(runner.seeds):
    yield {
      'seed': seed,
      'env_step': iteration * c.steps_per_iteration,
      'decision': iteration * c.num_envs,
      'update': c.updates_at(iteration),
      **{name: values[index] for name, values in measured.items()},
      **speeds,
    }
