"""The jobs of a sweep from start to end, and how far each is."""

import time
from collections.abc import Sequence
from typing import Any

from mjx_crossq.config import ConfigError
from mjx_crossq.launch.jobs import estimate, jobs


def supervise(
  found: Sequence[Any], engine: Any, retries: int, report: Any = print
) -> list[str]:
  """Runs the jobs that are not done, and those that fail again.

  A job is done when its folder says so, not when its process ends well: one
  that was asked to stop ends well too. Attempts that got on do not count.

  Args:
    found: all jobs of the sweep.
    engine: the backend.
    retries: further attempts of a job after one that did not get on.
    report: receives lines for a person.

  Returns:
    What failed, and why.
  """
  before = {job: jobs.progress(job) for job in found}
  for job, progress in before.items():
    if progress.state == 'running':
      report(f'{job.name}: another process trains it')
  missing = [j for j, p in before.items() if p.state not in ('done', 'running')]
  done = sum(p.state == 'done' for p in before.values())
  report(f'{done} of {len(found)} jobs are done, {len(missing)} to run')
  # The longest first, so that the short ones fill the gaps.
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
      got_on = progress.step > steps[job]
      attempts[job] = 1 if got_on else attempts[job] + 1
      steps[job] = max(progress.step, steps[job])
      why = f'exit status {status}: {jobs.last_line(job)}'
      if status == jobs.USAGE_ERROR or attempts[job] > retries:
        failed.append(f'{job.name} ({why})')
        report(f'failed: {failed[-1]}')
      else:
        report(f'{job.name} goes on from env step {progress.step:,} ({why})')
        again.append(job)
    running = left + list(zip(engine.submit(again), again, strict=True))
    if running and len(left) == len(running):
      time.sleep(engine.seconds)
  return failed


def status_table(found: Sequence[Any]) -> str:
  """A line a job: its name, env step of total, state, last return; sums.

  Args:
    found: the jobs.
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
