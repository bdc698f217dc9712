"""The loop of a run on the host: from stop to stop."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np

from mjx_crossq import vary, versions
from mjx_crossq.config import Config
from mjx_crossq.device.budget import return_freed
from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError
from mjx_crossq.host import (
  dumps,
  fidelity,
  integrity,
  pbt,
  records,
  schedule,
  stopping,
  warm_start,
)
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.evaluation import Diagnosis, Evaluation, has_stock
from mjx_crossq.host.evaluations import Evaluations
from mjx_crossq.host.items import Best
from mjx_crossq.host.pace import Pace
from mjx_crossq.host.preemption import Preemption
from mjx_crossq.host.progress import Progress, result_table
from mjx_crossq.host.run_files import RunFiles
from mjx_crossq.host.saving import Saver
from mjx_crossq.host.workers import Workers
from mjx_crossq.learner.agent import Metrics
from mjx_crossq.learner.states import Network, Transition
from mjx_crossq.paths import local
from mjx_crossq.results import plotting

Report = Callable[[str], None]
COMPILING = 'compiling (a minute on a CPU, less when it was compiled before)'
"""Reported before the first program is compiled."""


@dataclasses.dataclass(frozen=True)
class Result:
  """The result of a run.

  Attributes:
    config: the configuration.
    state: the final state of all seeds, as `runner` takes it.
    returns: of the last evaluation, `(num_seeds, eval_episodes)` by physics
      (`mjx`, and `dm_control` where the task has a stock environment).
    workdir: where the files are, or None.
    runner: the compiled programs, to act or to go on training.
  """

  config: Config
  state: TrainState
  returns: Mapping[str, np.ndarray]
  workdir: Path | None
  runner: Runner

  @property
  def policy(self) -> Network:
    """The actors of all seeds, for `runner.act`."""
    return self.runner.placement.without_copies(self.state.agent.actor.network)


def checkpoints(workdir: str | Path) -> Path:
  """The folder of a run's checkpoints."""
  return Path(local(workdir)) / 'checkpoints'


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
    start: warm_start.Start | None = None,
    stop: stopping.Stop | None = None,
    workers: Workers | None = None,
  ):
    """Programs are compiled by `run`.

    Args:
      runner: the programs.
      env: the environment.
      report: as of `train`, like the others that are not described here.
      preemption: handles signals.
      debug_nans: find the operation that made a number not finite.
      follow: called with the env step.
      transitions: with which a new replay begins.
      start: networks with which a new run's agents begin.
      stop: whether the run ends with an evaluation.
      workers: play the stock episodes; None for this process.
    """
    self._runner = runner
    self._env = env
    self._report = report
    self._preemption = preemption
    self._debug = debug_nans
    self._follow = follow
    self._transitions = transitions
    self._stop_by = stop
    self._workers = workers
    self._start = start
    self._best: Best | None = None
    self._pending: Mapping[int, Network] = {}
    self._files: RunFiles | None = None
    self._checkpointer: Checkpointer | None = None
    self._elapsed = 0.0

  def first_state(self) -> TrainState:
    """The state of all seeds before the first iteration."""
    state = self._runner.init(self._transitions)
    return self._start.into(state, self._runner) if self._start else state

  def run_in(self, workdir: Path) -> Result:
    """Trains in a folder that we own, from its newest intact checkpoint.

    Args:
      workdir: the folder.
    """
    runner, c, report = self._runner, self._runner.config, self._report
    folder = checkpoints(workdir)
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
    if newest is None and c.init_from and not self._start:
      self._start = warm_start.load(runner)
    report(COMPILING)
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
        self._best, self._pending = checkpointer.restore_evaluations(
          newest, runner.abstract_state().agent.actor.network
        )
        report(f'resuming {workdir} at env step {newest:,}')
        if schedule.due(c.eval_every, c, runner.iteration(state)):
          scores = 2 if has_stock(self._env) else 1
          rows = c.num_seeds * c.eval_episodes * scores
      files = RunFiles(
        workdir,
        c,
        newest or 0,
        rows,
        lineage=self._start.lineage if self._start else None,
        redone=self._pending,
      )
      self._files = stack.enter_context(files)
      if state is None:
        state = self.first_state()
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
    self._evaluations = Evaluations(
      runner,
      self._env,
      files,
      report,
      stop=self._ends,
      best=self._best,
      pending=self._pending,
      workers=self._workers,
    )
    self._saver = Saver(
      runner,
      self._checkpointer,
      files.workdir if files else None,
      evaluations=self._evaluations,
      progress=self._progress,
      preemption=self._preemption,
      report=report,
    )
    self._saver.between_calls(state, sums)
    self._pace = Pace(c, 1 if self._debug else None)
    with self._saver.on_error():
      state = self._train(state, sums)
    returns = self._evaluations.returns
    if not returns:  # the run had already ended: only its result is reported
      measure = Evaluation(runner, self._env)
      returns = measure(state.agent.actor.network, self._runner.env_step(state))
    report(f'return in {c.eval_episodes} episodes, mean +- std:')
    report(result_table(runner.seeds, returns, runner.variants))
    return Result(c, state, returns, None, runner)

  def _ends(self, step: int, returns: stopping.Returns) -> bool:
    """Whether the run ends with an evaluation."""
    asked = self._stop_by is not None and self._stop_by(step, returns)
    return bool(asked) or stopping.reached(self._runner.config, returns)

  def _train(self, state, sums):
    """Goes from stop to stop; returns the last state."""
    c, iteration = self._runner.config, self._runner.iteration(state)
    for step, policy in sorted(self._pending.items()):
      self._evaluations(policy, step)
    if iteration and schedule.is_stop(c, iteration):
      # The earlier process may have been killed before its work was done.
      self._stop(state, sums, 0.0, again=True)
      sums = None
    self._follow(self._runner.env_step(state))
    while iteration < c.iterations and not self._evaluations.stopped:
      stop = schedule.next_stop(c, iteration)
      state, sums, seconds = self._advance(state, sums, stop)
      iteration = self._runner.iteration(state)
      self._preemption.stop_if_asked()
      self._stop(state, sums, seconds)
      sums = None
      self._follow(self._runner.env_step(state))
    self._saver.at_end(state)
    return state

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
        self._saver.between_calls(state, sums)
      self._evaluations.poll()
      self._follow(self._runner.env_step(state))
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

  def _stop(self, state, sums, seconds, again=False):
    """Does what is due; with `again` only what is not in the files yet."""
    c, files, evaluations = self._runner.config, self._files, self._evaluations
    iteration = self._runner.iteration(state)
    step = self._runner.env_step(state)
    policy = state.agent.actor.network
    measured = None
    if not (again and files and files.has_metrics):
      measured = self._log(state, sums, seconds)
    if schedule.due(c.eval_every, c, iteration) and step not in self._pending:
      if again and files and files.has_returns:
        evaluations.known(policy, step, files.evaluation(), written=True)
      else:
        evaluations(policy, step)
    if iteration == c.iterations:
      evaluations.wait()
    ends = evaluations.stopped or schedule.due(c.checkpoint_every, c, iteration)
    if ends and not again:
      self._saver.at_stop(state)
    if measured is not None:
      fidelity.check_faithful(c, self._env, measured, step)

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
      measured |= self._diagnosis(state, self._runner.env_step(state))
    if self._files:
      self._files.write_metrics(
        records.of_rows(runner, iteration, measured, speeds)
      )
    self._report(
      self._progress.line(iteration, speeds, last_returns, runner.variants)
    )
    return measured
