"""When the state of a run is saved: at stops, on signals, and on errors."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.evaluations import Evaluations
from mjx_crossq.host.preemption import Interrupted, Preemption
from mjx_crossq.host.progress import Progress
from mjx_crossq.learner.agent import Metrics


class Saver:
  """Saves states with what the evaluations have come to."""

  def __init__(
    self,
    runner: Runner,
    checkpointer: Checkpointer | None,
    workdir: Path | None,
    *,
    evaluations: Evaluations,
    progress: Progress,
    preemption: Preemption,
    report: Callable[[str], None],
  ):
    """Saves nothing yet.

    Args:
      runner: says at which env step a state is.
      checkpointer: writes states; None for a run that writes nothing.
      workdir: its folder, for the message.
      evaluations: have the best policy and the pending ones.
      progress: has the time that the run has taken.
      preemption: is told how to save.
      report: receives a line for a person.
    """
    self._runner = runner
    self._checkpointer = checkpointer
    self._workdir = workdir
    self._evaluations = evaluations
    self._progress = progress
    self._preemption = preemption
    self._report = report
    self._save: Callable[[], None] = lambda: None

  def between_calls(self, state: TrainState, sums: Metrics | None) -> None:
    """Sets what is saved until the training program runs again.

    Args:
      state: of all seeds.
      sums: of the metrics since the last log point.
    """

    def save():
      if any(x.is_deleted() for x in jax.tree.leaves(state)):
        return  # a call that failed has consumed it
      step = self._runner.env_step(state)
      if self._checkpointer:
        if step and step not in self._checkpointer.steps():
          self._write(self._checkpointer.save, state, sums)
        self._checkpointer.wait()
      where = f'--workdir={self._workdir} ' if self._workdir else ''
      self._report(
        f'stopped at env step {step:,}, all is saved; to go on: the same '
        f'command with {where}--resume'
      )

    self._preemption.save_by(save)
    self._save = save

  @contextlib.contextmanager
  def on_error(self) -> Iterator[None]:
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

  def at_stop(self, state: TrainState) -> None:
    """Saves a state whose metrics are logged.

    Args:
      state: of all seeds.

    Raises:
      Interrupted: a signal came meanwhile.
      WriteError: it failed, or the save before.
    """
    if self._checkpointer:
      with self._preemption.busy():
        self._write(self._checkpointer.save, state, None)
      self._preemption.stop_if_asked()

  def at_end(self, state: TrainState) -> None:
    """Saves the last state again if evaluations were missing in its checkpoint.

    A signal may have caused that one before its env step was evaluated.

    Args:
      state: of all seeds.
    """
    saver, step = self._checkpointer, self._runner.env_step(state)
    if not saver or step not in saver.steps():
      return
    saver.wait()
    like = self._runner.abstract_state().agent.actor.network
    saved, pending = saver.restore_evaluations(step, like)
    best = self._evaluations.best
    same = (saved and saved.step) == (best and best.step)
    if pending or not same:
      with self._preemption.busy():
        self._write(saver.replace, state, None)

  def _write(self, write, state, sums):
    write(
      self._runner.env_step(state),
      state,
      sums,
      self._progress.elapsed(),
      best=self._evaluations.best,
      pending=self._evaluations.pending,
    )
