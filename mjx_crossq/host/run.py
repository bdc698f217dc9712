"""A run: checks that it can work, and trains it in its folder."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mjx_crossq.config import Config
from mjx_crossq.device.budget import Budget, advice_when_out_of_memory
from mjx_crossq.device.runner import Runner
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError
from mjx_crossq.host import fidelity, integrity, stopping, warm_start
from mjx_crossq.host.evaluation import has_stock
from mjx_crossq.host.loop import COMPILING, Host, Report, Result, checkpoints
from mjx_crossq.host.preemption import Preemption
from mjx_crossq.host.workdir import own_workdir
from mjx_crossq.host.workers import Workers
from mjx_crossq.learner.states import Transition
from mjx_crossq.paths import local


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
  stop: stopping.Stop | None = None,
  init: str | Path | None = None,
  eval_async: bool = False,
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
    stop: called after each evaluation with the env step of the policy and the
      returns, `(num_seeds, eval_episodes)` by physics; the run ends there if
      it returns true. A resumed run calls it with the evaluation of the env
      step that it goes on from, too. `config.stop_at_return` without code.
    init: a run, or RUN@STEP, with whose networks the agents begin: the policy,
      or the critic too (`config.init_parts`). The same as `config.init_from`.
    eval_async: play the episodes in stock dm_control in processes of their own
      while training goes on. The returns are equal up to rounding. Without
      effect where an evaluation may end the run, which would not be exact.

  Returns:
    The final state and returns.

  Raises:
    ConfigError: before anything is compiled or written, if the run cannot
      work as asked.
    WriteError: a file could not be written.
    OutOfMemoryError: the device has no memory left.
    Interrupted: a signal asked the run to stop, and the state is saved.
  """
  if init is not None:
    config = config.replace(init_from=str(init))
  if config.init_parts != 'policy' and not config.init_from:
    raise ConfigError(f'init_parts={config.init_parts} needs --init_from=RUN')
  fidelity.check_watched(config, env)
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
  start = None
  goes_on = workdir and resume and integrity.saved(checkpoints(workdir))
  if config.init_from and not goes_on:
    start = warm_start.load(runner)
  may_end = stop is not None or config.stop_at_return
  workers = contextlib.nullcontext()
  if eval_async and has_stock(env) and not may_end:
    workers = Workers(runner, env)
  host = Host(
    runner,
    env,
    report=report,
    preemption=preemption or Preemption(),
    debug_nans=debug_nans,
    follow=follow,
    transitions=transitions,
    start=start,
    stop=stop,
    workers=workers if isinstance(workers, Workers) else None,
  )
  with advice_when_out_of_memory(), workers:
    if workdir is None:
      report(COMPILING)
      return host.run(host.first_state(), None)
    workdir = Path(local(workdir))
    with own_workdir(workdir, config, resume):
      return host.run_in(workdir)
