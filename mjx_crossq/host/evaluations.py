"""The evaluations of a run: in order, with what follows from their returns."""

from collections.abc import Callable, Mapping
from typing import Any

import jax

from mjx_crossq.device.runner import Runner
from mjx_crossq.envs.base import Env
from mjx_crossq.host import stopping
from mjx_crossq.host.evaluation import Evaluation
from mjx_crossq.host.items import Best
from mjx_crossq.host.progress import evaluation_line
from mjx_crossq.host.run_files import RunFiles
from mjx_crossq.host.stopping import Returns, Stop
from mjx_crossq.host.workers import Workers
from mjx_crossq.learner.states import Network


class Evaluations:
  """Evaluates, writes the returns, keeps the best policy, says when to stop.

  Attributes:
    pending: policies on the host, by the env step of evaluations that have
      begun and whose returns are not written yet. Checkpoints hold them.
    best: the best policy so far, with `config.keep_best`.
    returns: of the last evaluation; empty before the first.
    stopped: whether the run is to end.
  """

  def __init__(
    self,
    runner: Runner,
    env: Env,
    files: RunFiles | None,
    report: Callable[[str], None],
    *,
    stop: Stop | None = None,
    best: Best | None = None,
    pending: Mapping[int, Network] | None = None,
    workers: Workers | None = None,
  ):
    """Makes the stock environments, if the task has any.

    Args:
      runner: the compiled programs.
      env: the environment.
      files: where the returns are written; None writes nothing.
      report: receives a line about each evaluation.
      stop: whether the run ends with an evaluation.
      best: of the checkpoint that the run goes on from.
      pending: of it.
      workers: play the stock episodes while training
        goes on; None plays them here.
    """
    self._runner = runner
    self._files = files
    self._report = report
    self._stop = stop
    self._workers = workers
    self._measure = Evaluation(runner, env, stock=workers is None)
    self._playing: dict[int, tuple[dict, Any]] = {}
    self.pending: Mapping[int, Network] = pending or {}
    self.best = best
    self.returns: Returns = {}
    self.stopped = False

  def __call__(self, policy: Network, step: int) -> None:
    """Evaluates a policy; with workers its returns are there later.

    One evaluation is played at a time, so a second one waits for the first.

    Args:
      policy: actors of all seeds.
      step: its env step.
    """
    if not self._workers:
      self.known(policy, step, self._measure(policy, step))
      return
    self.wait()
    kept = self._on_host(policy)
    self.pending = {**self.pending, step: kept}
    future = self._workers.play(kept, step)
    self._playing[step] = self._measure(policy, step), future

  def poll(self) -> None:
    """Takes the returns that are there.

    Raises:
      RunError: a worker has died.
    """
    if any(future.done() for _, future in self._playing.values()):
      self.wait()

  def wait(self) -> None:
    """Waits until no evaluation is being played.

    Raises:
      RunError: a worker has died.
    """
    for step, (returns, future) in list(self._playing.items()):
      found = {**returns, 'dm_control': future.result()}
      del self._playing[step]
      self.known(self.pending[step], step, found)

  def known(
    self, policy: Network, step: int, returns: Returns, written: bool = False
  ) -> None:
    """Does what follows from the returns of an evaluation.

    A checkpoint that a signal causes meanwhile has the evaluation as pending
    until its rows are written, and then its policy, should it be the best.

    Args:
      policy: that was evaluated.
      step: its env step.
      returns: of it.
      written: whether an earlier process has written them.
    """
    c = self._runner.config
    score = float(stopping.means(c, returns).mean())
    better = self.best is None or score > self.best.score
    if c.keep_best and better and score == score:  # not NaN
      self.best = Best(step, score, self._on_host(policy))
    if not written:
      if self._files:
        self._files.write_evaluation(self._runner.seeds, step, returns)
      self._report(evaluation_line(step, returns, self._runner.variants))
    self.returns = returns
    self.pending = {s: p for s, p in self.pending.items() if s != step}
    if self._stop and self._stop(step, stopping.rounded(returns)):
      self.stopped = True
      self._report(f'{step:>9,} the run ends with this evaluation')

  def _on_host(self, policy: Network) -> Network:
    place = self._runner.placement
    return place.without_copies(jax.device_get(policy))
