"""How far seeds, devices and jobs reach: a model from measured times.

    python -m launch.scaling --benchmark=seeds.json --memory_gib=80

The files are those of `launch.benchmark --sweep=seeds --json=seeds.json`. A
vmapped update of `n` seeds takes `a + b n`: `a` is what each update costs
however few its seeds are, `b` what a seed adds. Devices share nothing, so `D`
of them do `D` times the work while there is work for all. docs/scaling.md
explains it.
"""

from collections.abc import Sequence
from typing import Any

from absl import flags

from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import estimate, fleet

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
  speed = fleet.fit(
    [r for r in rows if all(r[k] == getattr(one, k) for k in alike)]
  )
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
  price = _PRICE.value
  print('| devices | in use | seeds a program | hours | device-hours |', end='')
  print('' if price is None else ' cost |')
  print('|---' * (5 + (price is not None)) + '|')
  for devices in sorted(_DEVICES.value):
    p = fleet.plan(
      speed, updates, len(cells), _SEEDS.value, min(most, _SEEDS.value), devices
    )
    cost = '' if price is None else f' {p.device_hours * price:,.0f} |'
    print(
      f'| {p.devices:,} | {p.busy:,} | {p.block} | {p.hours:,.1f} | '
      f'{p.device_hours:,.0f} |{cost}'
    )


def _print_memory(cells: Sequence[Any], memory: int) -> int:
  """Prints how many seeds of each task fit a device; the fewest of them."""
  from mjx_crossq.launch.jobs import grid

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
