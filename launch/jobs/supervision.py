"""Runs jobs until they are done, and shows their progress."""

import functools
import time
from collections.abc import Callable, Sequence

from mjx_crossq.config import ConfigError
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import estimate, jobs
from mjx_crossq.launch.jobs.backends import Backend
from mjx_crossq.launch.jobs.jobs import Job

_show = functools.partial(print, flush=True)


def supervise(
  found: Sequence[Job],
  engine: Backend,
  retries: int,
  report: Callable[[str], None] = _show,
) -> list[str]:
  """Runs the jobs that are not done, and starts again those that fail.

  The files in its folder decide whether a job is done, not the exit status of
  its process, because a process that was asked to stop exits with 0. An attempt
  that reached a later checkpoint does not count as a failure.

  Args:
    found: all jobs.
    engine: the backend; it is closed at the end.
    retries: how often a job is started again after attempts without progress.
    report: receives lines for the user.

  Returns:
    A line for each job that failed, with the reason.
  """
  try:
    return _supervise(found, engine, retries, report)
  finally:
    engine.close()


def _supervise(
  found: Sequence[Job],
  engine: Backend,
  retries: int,
  report: Callable[[str], None],
) -> list[str]:
  before = {job: jobs.progress(job) for job in found}
  for job, progress in before.items():
    if progress.state == 'running':
      report(f'{job.name}: another process trains it')
  missing = [j for j, p in before.items() if p.state not in ('done', 'running')]
  done = sum(p.state == 'done' for p in before.values())
  report(f'{done} of {len(found)} jobs are done, {len(missing)} to run')
  # The longest jobs start first, and the short ones fill the gaps at the end.
  missing.sort(key=lambda j: -estimate.updates(j.config, before[j].step))
  steps = {job: before[job].step for job in missing}
  attempts = dict.fromkeys(missing, 0)
  failed: list[str] = []
  running = list(zip(engine.submit(missing), missing, strict=True))
  ended = 0
  while running:
    again, left = [], []
    for handle, job in running:
      status = engine.poll(handle)
      if status is None:
        left.append((handle, job))
        continue
      try:
        progress = jobs.progress(job)
      except ConfigError as error:
        failed.append(f'{job.name} ({error})')
        report(f'failed: {failed[-1]}')
        continue
      if progress.state == 'done':
        ended += 1
        shown = progress.episode_return
        report(
          f'[{ended}/{len(missing)}] {job.name} is done'
          + ('' if shown is None else f', return {shown:.0f}')
        )
        continue
      advanced = progress.step > steps[job]
      attempts[job] = 1 if advanced else attempts[job] + 1
      steps[job] = max(progress.step, steps[job])
      reasons = [f'exit status {status}', jobs.last_line(job)]
      why = ': '.join(filter(None, reasons))
      if status == cli.USAGE_ERROR or attempts[job] > retries:
        failed.append(f'{job.name} ({why})')
        report(f'failed: {failed[-1]}')
      else:
        report(f'{job.name} continues at env step {progress.step:,} ({why})')
        again.append(job)
    running = left + list(zip(engine.submit(again), again, strict=True))
    if running and len(left) == len(running):
      time.sleep(engine.seconds)
  return failed


def status_table(found: Sequence[Job]) -> str:
  """A line for each job, and the number of jobs in each state.

  Args:
    found: the jobs.

  Returns:
    Name, env step of the total, state and newest return of each job.
  """
  width = max(len(job.name) for job in found)
  lines = [f'{"job":{width}} {"env step":>22}  {"state":8} {"return":>7}']
  states: dict[str, int] = {}
  for job in found:
    p = jobs.progress(job)
    states[p.state] = states.get(p.state, 0) + 1
    shown = '-' if p.episode_return is None else f'{p.episode_return:.0f}'
    total = f'{p.step:,} / {jobs.last_step(job.config):,}'
    lines.append(f'{job.name:{width}} {total:>22}  {p.state:8} {shown:>7}')
  counts = ', '.join(f'{n} {state}' for state, n in sorted(states.items()))
  return '\n'.join([*lines, f'{len(found)} jobs: {counts}'])
