"""What jobs need: memory, hours and money. It computes nothing on a device."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from mjx_crossq.config import Config, ConfigError
from mjx_crossq.device.budget import Budget
from mjx_crossq.device.runner import Runner
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import estimate, grid, jobs
from mjx_crossq.launch.jobs.estimate import Row
from mjx_crossq.launch.jobs.jobs import Job

# The memory of a run does not depend on these fields.
_NOT_IN_MEMORY = {
  'utd': 1,
  'seed': 0,
  'env_steps': 1_000_000,
  'reset_every': 0,
  'reset_at': (),
}


@functools.cache
def _env(task: str, physics: str, allow_unfaithful: bool) -> Any:
  return cli.load_env(task, physics, allow_unfaithful=allow_unfaithful)


def check(runs: Iterable[Config], allow_unfaithful: bool = False) -> None:
  """Refuses runs that could not be trained, before any of them starts.

  Args:
    runs: configurations.
    allow_unfaithful: whether tasks may differ from stock.

  Raises:
    ConfigError: there is no such task, or it does not fit the configuration.
  """
  for config in runs:
    Runner(config, _env(config.task, config.physics, allow_unfaithful))


def budgets_of(
  runs: Iterable[Config], allow_unfaithful: bool = False
) -> dict[Config, Budget]:
  """The memory of each run, computed from shapes alone.

  Args:
    runs: configurations.
    allow_unfaithful: whether tasks may differ from stock.

  Returns:
    The budget of each.

  Raises:
    ConfigError: a task and a configuration do not fit together.
  """
  found: dict[Config, Budget] = {}
  result: dict[Config, Budget] = {}
  for config in runs:
    # Whether rates fall matters, and not how long: `utd` is another here.
    decay = min(config.lr_decay_steps, 1)
    alike = config.replace(**_NOT_IN_MEMORY, lr_decay_steps=decay)
    if alike not in found:
      env = _env(config.task, config.physics, allow_unfaithful)
      found[alike] = Budget.of(Runner(alike, env).abstract_state())
    result[config] = found[alike]
  return result


def report(
  found: Sequence[Job],
  rows: Sequence[Row],
  allow_unfaithful: bool = False,
  here: bool = True,
) -> None:
  """Prints size, cost and progress of each job, and the sums.

  Args:
    found: the jobs.
    rows: measured speeds.
    allow_unfaithful: whether tasks may differ from stock.
    here: whether they run on this machine, whose memory must suffice.

  Raises:
    ConfigError: a job cannot start because of its task, folder or memory.
  """
  print(
    f'{"run":44} {"seeds":>5} {"env steps":>10} {"updates left":>13} '
    f'{"MiB":>7} {"hours":>7}'
  )
  budgets = budgets_of([job.config for job in found], allow_unfaithful)
  total, left, unmeasured = 0, 0.0, []
  for job in found:
    config = job.config
    step = jobs.reached(config, job.folder)
    rows_of_run = len(config.combinations) * config.num_seeds
    count = estimate.updates(config, step) * rows_of_run
    total += count
    speed = estimate.speed_of(config, rows)
    time = None if speed is None else estimate.hours(config, speed, step)
    left += time or 0
    if speed is None and count:
      unmeasured.append(config)
    print(
      f'{jobs.title(config):44} {config.num_seeds:5} '
      f'{config.env_steps:10,} {count:13,} '
      f'{budgets[config].total / 2**20:7,.0f} '
      f'{"-" if time is None else f"{time:.2f}":>7}  '
      + _progress(step, jobs.complete(config, job.folder))
      + (f', speed of {speed.source}' if speed else '')
      + (f' (error {speed.error:.0%})' if speed and speed.error > 0.01 else '')
    )
  largest = max(budgets.values(), key=lambda budget: budget.total)
  print(
    f'{len(found)} runs one after the other: {total:,} updates of single '
    f'seeds, {largest.total / 2**20:,.0f} MiB at most'
    + (
      f' of {largest.available / 2**20:,.0f}'
      if here and largest.available
      else ''
    )
  )
  if rows:
    print(
      f'{left:,.1f} hours for the runs with a measured speed, without '
      'compilation, warm-up and evaluations'
    )
  if unmeasured:
    print(
      f'no speed was measured for {len(unmeasured)}; measure it with\n  '
      + _command(unmeasured[-1])
    )
  if here:
    largest.check()


def _progress(step: int, complete: bool) -> str:
  if not step:
    return 'missing'
  return 'complete' if complete else f'at {step:,}'


def _command(config: Config) -> str:
  """The command that measures the speed of a run."""
  return (
    f'python -m launch.benchmark --task={config.task} '
    f'--preset={config.preset} --physics={config.physics} '
    f'--num_seeds={config.num_seeds} --set=utd={config.utd} '
    f'--set=critic_width={config.critic_width} --json=speeds.json, and add '
    '--benchmark=speeds.json here'
  )


def report_devices(
  cells: Sequence[Config],
  rows: Sequence[Row],
  counts: Sequence[int],
  memory: int | None,
  price: float | None,
  allow_unfaithful: bool = False,
) -> None:
  """Prints hours and cost of whole cells on several numbers of devices.

  Args:
    cells: of a grid.
    rows: measured speeds.
    counts: numbers of devices.
    memory: of a device, in bytes; None if it is not considered.
    price: of a device for an hour; None if it is not considered.
    allow_unfaithful: whether tasks may differ from stock.

  Raises:
    ConfigError: a cell has no measured speed, or one seed does not fit.
  """
  budgets = budgets_of(cells, allow_unfaithful) if memory else {}
  work = []
  for config in cells:
    speed = estimate.speed_of(config, rows)
    if speed is None:
      raise ConfigError(
        f'--devices: no speed was measured for {jobs.title(config)}; '
        f'measure it with {_command(config)}'
      )
    most = config.num_seeds
    if memory:
      total = budgets[config].total
      fit = grid.seeds_that_fit(config, total, memory)
      most = min(most, fit)
      print(
        f'{jobs.title(config)}: {total / config.num_seeds / 2**20:,.0f} MiB a '
        f'seed, {fit:,} seeds fit a device'
      )
    work.append(
      estimate.Cell(
        estimate.updates(config),
        config.num_seeds,
        most,
        speed,
        len(config.combinations),
      )
    )
  cost = '' if price is None else ' cost |'
  print(f'| devices | in use | seeds per job | hours | device-hours |{cost}')
  print('|---' * (5 + (price is not None)) + '|')
  for count in sorted(set(counts)):
    d = estimate.divide(work, count)
    cost = '' if price is None else f' {d.device_hours * price:,.0f} |'
    print(
      f'| {d.devices:,} | {d.busy:,} | {d.seeds_per_job} | {d.hours:,.1f} | '
      f'{d.device_hours:,.0f} |{cost}'
    )
