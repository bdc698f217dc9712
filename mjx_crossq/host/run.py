"""A run: the host calls the training program, logs, evaluates and saves."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mjx_crossq import vary, versions
from mjx_crossq.config import Config
from mjx_crossq.device.budget import (
  Budget,
  advice_when_out_of_memory,
  return_freed,
)
from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError
from mjx_crossq.host import dumps, integrity, pbt, records, schedule
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.evaluation import Diagnosis, Evaluation, has_stock
from mjx_crossq.host.pace import Pace
from mjx_crossq.host.preemption import Interrupted, Preemption
from mjx_crossq.host.progress import Progress, evaluation_line, result_table
from mjx_crossq.host.run_files import RunFiles
from mjx_crossq.host.workdir import own_workdir
from mjx_crossq.learner.agent import Metrics
from mjx_crossq.learner.states import Network, Transition
from mjx_crossq.paths import local
from mjx_crossq.results import plotting

Report = Callable[[str], None]
_COMPILING = 'compiling (a minute on a CPU, less when it was compiled before)'


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a run.

  Attributes:
    config: the configuration.
    state: the final state of all seeds, as `runner` takes it.
    returns: the last evaluation, `(num_seeds, eval_episodes)` by physics
      (`mjx`, and `dm_control` where the task has a stock environment).
    workdir: where the files are, or None.
    runner: the compiled programs, to act or to go on training.
  """

  config: Config
  state: TrainState
  returns: dict[str, np.ndarray]
  workdir: Path | None
  runner: Runner

  @property
  def policy(self) -> Network:
    """The actors of all seeds, for `runner.act`."""
    return self.runner.placement.without_copies(self.state.agent.actor.network)


def train(
  config: Config,
  env: Env,
  *,
  workdir: str | Path | None = None,
  resume: bool = False,
  report: Report = print,
  preemption: Preemption | None = None,
  debug_nans: bool = False,
  follow: Callable[[int], None] = lambda step: None,
  devices: Sequence[Any] | None = None,
  data_parallel: bool = False,
  transitions: Transition | None = None,
) -> Result:
  """Trains all seeds of a run in one program.

  Args:
    config: the configuration.
    env: the environment.
    workdir: where to write; None writes nothing.
    resume: go on from the newest intact checkpoint of `workdir`, if any.
    report: receives lines for a person.
    preemption: an entered context, which handles signals; None for none.
    debug_nans: find the operation that made a number not finite; slow.
    follow: called with the env step when the run has advanced or written to
      its files; see `trackers`.
    devices: over which the seeds are distributed; None for the default one.
    data_parallel: distribute one seed over them instead.
    transitions: with which the replay of every seed begins; those of
      `datasets.load`, `config.init_transitions` of them.

  Returns:
    The final state and returns.

  Raises:
    ConfigError: before anything is compiled or written, if the run cannot
      work as asked.
    WriteError: a file could not be written.
    OutOfMemoryError: the device has no memory left.
    Interrupted: a signal asked the run to stop, and the state is saved.
  """
  runner = Runner(config, env, devices, data_parallel=data_parallel)
  given = 0 if transitions is None else len(transitions.reward)
  if given != config.init_transitions and not (resume and not given):
    raise ConfigError(
      f'init_transitions={config.init_transitions}, but the replay is to begin '
      f'with {given}; --init_replay=FILE gives them and sets it'
    )
  if given and data_parallel:
    raise ConfigError('--init_replay: not with --data_parallel')
  Budget.of(runner.abstract_state(), runner.placement.devices).check()
  host = Host(
    runner,
    env,
    report=report,
    preemption=preemption or Preemption(),
    debug_nans=debug_nans,
    follow=follow,
    transitions=transitions,
  )
  with advice_when_out_of_memory():
    if workdir is None:
      report(_COMPILING)
      return host.run(runner.init(transitions), None)
    workdir = Path(local(workdir))
    with own_workdir(workdir, config, resume):
      return host.run_in(workdir)


class Host:
  """Trains from stop to stop: iterations at which the host has work to do."""

  def __init__(
    self,
    runner: Runner,
    env: Env,
    *,
    report: Report,
    preemption: Preemption,
    debug_nans: bool,
    follow: Callable[[int], None],
    transitions: Transition | None = None,
  ):
    """Programs are compiled by `run`; the arguments are those of `train`."""
    self._runner = runner
    self._env = env
    self._report = report
    self._preemption = preemption
    self._debug = debug_nans
    self._follow = follow
    self._transitions = transitions
    self._files: RunFiles | None = None
    self._checkpointer: Checkpointer | None = None
    self._elapsed = 0.0

  def run_in(self, workdir: Path) -> Result:
    """Trains in a folder that we own, from its newest intact checkpoint.

    Args:
      workdir: the folder.
    """
    runner, c, report = self._runner, self._runner.config, self._report
    folder = workdir / 'checkpoints'
    again = f'to go on: the same command with --workdir={workdir} --resume'
    self._preemption.save_by(
      lambda: report(f'stopped, there is nothing new to save; {again}')
    )
    newest = integrity.newest_intact(folder, report=report)
    if newest and newest > c.iterations * c.steps_per_iteration:
      raise ConfigError(
        f'{workdir} has {newest:,} env steps already, and env_steps='
        f'{c.env_steps}; give --env_steps={newest} or more'
      )
    for path in integrity.set_aside(folder, newest):
      report(f'moved to {path}')
    if newest is None and c.init_transitions and self._transitions is None:
      raise ConfigError(
        f'{workdir} has no checkpoint yet; give --init_replay=FILE again'
      )
    report(_COMPILING)
    with contextlib.ExitStack() as stack:
      checkpointer = Checkpointer(folder, placement=runner.placement)
      self._checkpointer = stack.enter_context(checkpointer)
      state, sums, rows = None, None, 0
      if newest is not None:
        self._elapsed = checkpointer.elapsed(newest)
        history = versions.continued(workdir / 'config.json', newest)
        if len(history) > 1 and history[-1]['env_step'] == newest:
          changed = versions.changes(*(x['versions'] for x in history[-2:]))
          report(f'other versions from env step {newest:,} on: {changed}')
        state = checkpointer.restore(newest, runner.abstract_state())
        sums = checkpointer.restore_sums(newest, runner.zero_sums())
        report(f'resuming {workdir} at env step {newest:,}')
        if schedule.due(c.eval_every, c, runner.iteration(state)):
          scores = 2 if has_stock(self._env) else 1
          rows = c.num_seeds * c.eval_episodes * scores
      files = RunFiles(workdir, c, newest or 0, rows)
      self._files = stack.enter_context(files)
      if state is None:
        state = runner.init(self._transitions)
      result = self.run(state, sums)
    for variant, folder in zip(
      vary.variants(c), vary.folders(workdir, c), strict=True
    ):
      title = f'{c.task}, {c.preset}'
      plotting.learning_curve(
        folder / 'eval.csv',
        f'{title}, {variant.name}' if variant.name else title,
        folder / 'learning_curve.png',
      )
    return dataclasses.replace(result, workdir=workdir)

  def run(self, state: TrainState, sums: Metrics | None) -> Result:
    """Trains to the end.

    Args:
      state: the first one.
      sums: of the metrics since the last log point; None if there are none.
    """
    runner, c = self._runner, self._runner.config
    files, report = self._files, self._report
    iteration = runner.iteration(state)
    self._population = pbt.Population(runner, files, report)
    self._diagnosis = Diagnosis(runner, report)
    dump_folder = files.workdir / 'faults' if files else None
    self._faults = dumps.FaultReporter(
      runner, dump_folder, report, debug=self._debug
    )
    self._faults.start(state)
    if iteration < c.iterations:
      start = time.monotonic()
      state, sums = runner.train_chunk(state, iteration, sums)  # only compiles
      jax.block_until_ready(sums)
      seconds = time.monotonic() - start
      return_freed()
      report(f'compiled the training program in {seconds:.0f} s')
    self._progress = Progress(c, iteration, self._elapsed)
    self._save_between_calls(state, sums)
    self._evaluation = Evaluation(runner, self._env, files)
    self._pace = Pace(c, 1 if self._debug else None)
    with self._saving_on_error():
      state, returns = self._train(state, sums)
    if not returns:  # the run had already ended: only its result is reported
      returns = Evaluation(runner, self._env, None)(state, self._step(state))
    report(f'return in {c.eval_episodes} episodes, mean +- std:')
    report(result_table(runner.seeds, returns, runner.variants))
    return Result(c, state, returns, None, runner)

  def _train(self, state, sums):
    """Goes from stop to stop; returns the last state and its evaluation."""
    c, iteration = self._runner.config, self._runner.iteration(state)
    returns = {}
    if iteration and schedule.is_stop(c, iteration):
      # The earlier process may have been killed before its work was done.
      returns = self._stop(state, sums, 0.0, again=True)
      sums = None
    self._follow(self._step(state))
    while iteration < c.iterations:
      stop = schedule.next_stop(c, iteration)
      state, sums, seconds = self._advance(state, sums, stop)
      iteration = self._runner.iteration(state)
      self._preemption.stop_if_asked()
      returns = self._stop(state, sums, seconds) or returns
      sums = None
      self._follow(self._step(state))
    return state, returns

  @contextlib.contextmanager
  def _saving_on_error(self):
    """Saves the state before an error ends the run, whoever raises it."""
    try:
      yield
    except Interrupted:  # it is saved
      raise
    except BaseException:
      # If this save fails too, the first error is the one to report.
      with contextlib.suppress(Exception):
        if self._checkpointer:
          self._save()
      raise

  def _step(self, state: TrainState) -> int:
    done = self._runner.iteration(state)
    return done * self._runner.config.steps_per_iteration

  def _advance(self, state, sums, stop):
    """Iterates to a stop in short calls; a signal makes it end before."""
    iteration, total = self._runner.iteration(state), 0.0
    first_call = True
    while iteration < stop:
      with self._preemption.busy():
        if first_call:  # here, so that no checkpoint is saved in between
          state = self._population(state, iteration)
          first_call = False
        target = self._pace.target(iteration, stop)
        state, sums, seconds = self._call(state, sums, target)
        first, iteration = iteration, self._runner.iteration(state)
        self._pace.took(first, iteration, seconds)
        total += seconds
        self._save_between_calls(state, sums)
      self._follow(self._step(state))
      if self._preemption.signal is not None:
        break
    return state, sums, total

  def _call(self, state, sums, target):
    """Iterates to `target`, or until a seed is frozen; all devices as far.

    A device stops early where one of its seeds is frozen, so that the fault can
    be reported; the next calls bring it to the iteration of the others.
    """
    seconds = 0.0
    while True:
      before = self._faults.copy(state)
      start = time.monotonic()
      state, sums = self._runner.train_chunk(state, target, sums)
      jax.block_until_ready(sums)
      seconds += time.monotonic() - start
      self._faults(before, state, sums)
      if self._runner.in_step(state):
        return state, sums, seconds

  def _save_between_calls(self, state, sums):
    """Sets how the state is saved until the training program runs again."""

    def save():
      if any(x.is_deleted() for x in jax.tree.leaves(state)):
        return  # a call that failed has consumed it
      step = self._step(state)
      if self._checkpointer:
        if step and step not in self._checkpointer.steps():
          elapsed = self._progress.elapsed()
          self._checkpointer.save(step, state, sums, elapsed)
        self._checkpointer.wait()
      where = f'--workdir={self._files.workdir} ' if self._files else ''
      self._report(
        f'stopped at env step {step:,}, all is saved; to go on: the same '
        f'command with {where}--resume'
      )

    self._preemption.save_by(save)
    self._save = save

  def _stop(self, state, sums, seconds, again=False):
    """Does what is due; with `again` only what is not in the files yet."""
    c, files = self._runner.config, self._files
    iteration = self._runner.iteration(state)
    step = self._step(state)
    returns = {}
    if not (again and files and files.has_metrics):
      self._log(state, sums, seconds)
    if schedule.due(c.eval_every, c, iteration) and not (
      again and files and files.has_returns
    ):
      returns = self._evaluation(state, step)
      self._report(evaluation_line(step, returns, self._runner.variants))
    saver = self._checkpointer
    if saver and not again and schedule.due(c.checkpoint_every, c, iteration):
      with self._preemption.busy():
        saver.save(step, state, elapsed=self._progress.elapsed())
      self._preemption.stop_if_asked()
    return returns

  def _log(self, state, sums, seconds):
    c, runner = self._runner.config, self._runner
    iteration = runner.iteration(state)
    sums = runner.zero_sums() if sums is None else sums
    shown = sums, state.rollout.last_return, state.frozen, state.hyper
    sums, last_returns, frozen, hyper = runner.placement.without_copies(
      jax.device_get(shown)
    )
    speeds = self._progress.speeds(iteration, max(seconds, 1e-9))
    last_returns = records.mean_returns(last_returns)
    measured = records.of_training(sums, last_returns, frozen)
    measured |= pbt.series(hyper)
    if c.diagnostics_every and schedule.due(c.diagnostics_every, c, iteration):
      measured |= self._diagnosis(state, self._step(state))
    if self._files:
      self._files.write_metrics(
        records.of_rows(runner, iteration, measured, speeds)
      )
    self._report(
      self._progress.line(iteration, speeds, last_returns, runner.variants)
    )
