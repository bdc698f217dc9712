"""How far seeds, devices and jobs reach: a model from measured times.

    python -m launch.scaling --benchmark=seeds.json --memory_gib=80

The files are those of `launch.benchmark --sweep=seeds --json=seeds.json`. A
vmapped update of `n` seeds takes `a + b n`: `a` is what each update costs
however few its seeds are, `b` what a seed adds. Devices share nothing, so `D`
of them do `D` times the work while there is work for all. docs/scaling.md
explains it.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags

from launch import cli, estimate

_BENCHMARK = flags.DEFINE_list(
  'benchmark', [], 'files of launch.benchmark --json, of one kind of device'
)
_TASKS = flags.DEFINE_list('tasks', ['paper'], 'tasks of the work')
_PRESET = flags.DEFINE_string('preset', 'crossq_wn', 'preset of the work')
_SET = flags.DEFINE_multi_string('set', [], 'key=value; repeatable')
_SEEDS = flags.DEFINE_integer('seeds', 10, 'seeds of each task', 1)
_DEVICES = flags.DEFINE_multi_integer(
  'devices', [1, 8, 256, 1000], 'devices; repeatable', 1
)
_MEMORY_GIB = flags.DEFINE_float(
  'memory_gib', None, 'of a device; None: not looked at', 1e-3
)
_PRICE = flags.DEFINE_float('price', None, 'of a device for an hour', 0.0)


@dataclasses.dataclass(frozen=True)
class Speed:
  """What a vmapped update costs on one device.

  Attributes:
    fixed: seconds of an update, however few its seeds are.
    per_seed: seconds that each seed adds.
    measured: numbers of seeds from which they were read.
    error: greatest relative error of the model at those.
  """

  fixed: float
  per_seed: float
  measured: tuple[int, ...]
  error: float

  def seconds(self, seeds: float) -> float:
    """Of an update of so many seeds."""
    return self.fixed + self.per_seed * seeds

  @property
  def half(self) -> float:
    """Seeds with which a device does half of what it can."""
    return self.fixed / self.per_seed


def fit(rows: Sequence[Mapping[str, Any]]) -> Speed:
  """Reads the model off measurements at several numbers of seeds.

  Least squares of the relative error, with both terms kept from falling below
  0; one number of seeds alone gives a cost in proportion to the seeds.

  Args:
    rows: of `launch.benchmark`, alike but for the seeds.

  Raises:
    ConfigError: there are none.
  """
  from mjx_crossq.config import ConfigError

  if not rows:
    raise ConfigError(
      '--benchmark has no row of this preset and width; make one with '
      'python -m launch.benchmark --sweep=seeds --json=FILE'
    )
  n = np.array([row['num_seeds'] for row in rows], float)
  t = np.array([1 / row['updates_per_second'] for row in rows])
  columns = np.stack([np.ones_like(n), n], 1) / t[:, None]
  a, b = 0.0, float(np.sum(n / t) / np.sum((n / t) ** 2))
  if len(set(n)) > 1:
    found = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)[0]
    if found.min() >= 0:
      a, b = map(float, found)
    elif found[1] < 0:  # the seeds are free as far as was measured
      a, b = float(np.sum(1 / t) / np.sum(1 / t**2)), 0.0
  speed = Speed(a, b, tuple(sorted({int(x) for x in n})), 0.0)
  error = float(np.max(np.abs((a + b * n) / t - 1)))
  return dataclasses.replace(speed, error=error)


@dataclasses.dataclass(frozen=True)
class Plan:
  """A workload on so many devices.

  Attributes:
    devices: that there are.
    busy: of them those that have work at the busiest time.
    block: seeds of a program, at most.
    hours: until all is done.
    device_hours: of the busy devices together.
  """

  devices: int
  busy: int
  block: int
  hours: float
  device_hours: float


def plan(
  speed: Speed, updates: int, tasks: int, seeds: int, most: int, devices: int
) -> Plan:
  """The quickest even division of tasks x seeds over devices.

  A program has seeds of one task, and a device one program at a time, so a
  task is divided into blocks; of those with the same end the fewest blocks win,
  which cost least.

  Args:
    speed: of a device.
    updates: of each seed.
    tasks: how many.
    seeds: of each task.
    most: seeds that fit a device, from 1.
    devices: how many.
  """
  best = None
  for blocks in range(-(-seeds // most), seeds + 1):
    block = -(-seeds // blocks)
    jobs = tasks * blocks
    one = updates * speed.seconds(block) / 3600
    hours = math.ceil(jobs / devices) * one
    found = Plan(devices, min(jobs, devices), block, hours, jobs * one)
    if best is None or found.hours < best.hours * (1 - 1e-9):
      best = found
  assert best
  return best


def main() -> None:
  """Reads the flags and prints the tables."""
  import jax

  from mjx_crossq import config as config_lib
  from mjx_crossq.config import ConfigError

  if not _BENCHMARK.value:
    raise ConfigError('--benchmark is needed: files of launch.benchmark --json')
  jax.config.update('jax_platforms', 'cpu')  # nothing is computed
  rows = estimate.read(_BENCHMARK.value)
  changes = config_lib.parse_assignments(_SET.value)
  cells = [
    config_lib.from_preset(
      _PRESET.value, **{**changes, 'task': task, 'num_seeds': _SEEDS.value}
    )
    for task in cli.expand_tasks(_TASKS.value)
  ]
  one = cells[0]
  alike = ('preset', 'critic_width', 'num_envs')
  speed = fit([r for r in rows if all(r[k] == getattr(one, k) for k in alike)])
  print(
    f'{one.preset}, width {one.critic_width}: an update of n seeds takes '
    f'{1e3 * speed.fixed:.3g} + {1e3 * speed.per_seed:.3g} n ms (measured with '
    f'{", ".join(map(str, speed.measured))} seeds; off by {speed.error:.0%} at '
    'most)'
  )
  if speed.per_seed:
    print(
      f'a device does {1 / speed.per_seed:,.0f} seed-updates/s at most, half '
      f'of that with {speed.half:.1f} seeds'
    )
  most = _SEEDS.value
  if _MEMORY_GIB.value:
    most = _print_memory(cells, int(_MEMORY_GIB.value * 2**30))
  updates = estimate.updates(one)
  total = updates * len(cells) * _SEEDS.value
  print(
    f'{len(cells)} tasks x {_SEEDS.value} seeds x {updates:,} updates = '
    f'{total:,} seed-updates'
  )
  priced = _PRICE.value is not None
  print('| devices | in use | seeds a program | hours | device-hours |', end='')
  print(' cost |' if priced else '')
  print('|---' * (6 if priced else 5) + '|')
  for devices in sorted(_DEVICES.value):
    p = plan(
      speed, updates, len(cells), _SEEDS.value, min(most, _SEEDS.value), devices
    )
    cost = f' {p.device_hours * _PRICE.value:,.0f} |' if priced else ''
    print(
      f'| {p.devices:,} | {p.busy:,} | {p.block} | {p.hours:,.1f} | '
      f'{p.device_hours:,.0f} |{cost}'
    )


def _print_memory(cells: Sequence[Any], memory: int) -> int:
  """Prints how many seeds of each task fit a device; the fewest of them."""
  from launch import grid

  budgets = estimate.budgets_of(cells, allow_unfaithful=True)
  print('| task | MiB a seed | seeds that fit a device |\n|---|---|---|')
  fits = []
  for config in cells:
    each = budgets[config].total / config.num_seeds
    fits.append(grid.seeds_that_fit(config, budgets[config].total, memory))
    print(f'| {config.task} | {each / 2**20:,.0f} | {fits[-1]:,} |')
  return min(fits)


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
