"""Times the training program, or the physics alone.

    python -m launch.benchmark --task=cheetah-run --num_seeds=10 --split
    python -m launch.benchmark --task=cheetah-run --sweep=seeds --plot=seeds.png
    python -m launch.benchmark --check
    python -m launch.benchmark --physics_only --task=paper --physics=mjx,warp
    python -m launch.benchmark --launches

The cases are timed alternately, without compilation and warm-up. Medians and
spreads are printed and, with --json, written. docs/performance.md explains the
results.
"""

import itertools
import json
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq import config as config_lib
from mjx_crossq import versions
from mjx_crossq.config import ConfigError
from mjx_crossq.launch import cli, path_flags
from mjx_crossq.launch.bench import sweep_plot

SWEEPS = {
  'seeds': ('num_seeds', (1, 2, 4, 8, 16, 32)),
  'envs': ('num_envs', (1, 4, 16, 64)),
  'utd': ('utd', (1, 2, 5, 10, 20)),
  'width': ('critic_width', (128, 256, 512, 1024)),
  'capacity': ('replay_capacity', (10_000, 100_000, 1_000_000)),
}
_PARTS_OF_MEMORY = ('replay', 'agent', 'env', 'temporary')

_TASK = flags.DEFINE_list(
  'task',
  ['cartpole-swingup'],
  'task; with --physics_only also several, paper, benchmarking or all',
)
_PHYSICS_ONLY = flags.DEFINE_bool(
  'physics_only', False, "control steps only, beside C's on one thread"
)
_PHYSICS = flags.DEFINE_list('physics', ['mjx'], 'mjx, warp, or both')
_NUM_ENVS = flags.DEFINE_multi_integer(
  'num_envs', None, 'environments per seed; repeatable', 1
)
_PRESET = flags.DEFINE_string('preset', 'crossq_wn', 'preset')
_NUM_SEEDS = flags.DEFINE_multi_integer(
  'num_seeds', [1], 'seeds in the program; repeat for several', 1
)
_DEVICES = flags.DEFINE_integer(
  'devices', 1, 'devices that the seeds are divided over', 1
)
_SET = flags.DEFINE_multi_string('set', [], 'key=value; repeatable')
_CAPACITIES = flags.DEFINE_multi_integer(
  'capacity', None, 'replay capacities, in env steps; repeatable', 1
)
_SPLIT = flags.DEFINE_bool(
  'split', False, 'also time the parts, and the rates of the device'
)
_SWEEP = flags.DEFINE_enum(
  'sweep', None, list(SWEEPS), 'measure the cost for several values of this'
)
_SWEEP_VALUES = flags.DEFINE_list(
  'sweep_values', None, 'values of --sweep instead of the usual ones'
)
_PLOT = path_flags.define('plot', None, 'file for the figure of --sweep')
_CHECK = flags.DEFINE_bool(
  'check', False, 'check ratios of times that must hold on a CPU'
)
_LAUNCHES = flags.DEFINE_bool(
  'launches', False, 'what a launch and a trip of a loop cost on this device'
)
_PROFILE = path_flags.define(
  'profile', None, 'folder for a trace of one chunk (TensorBoard, Perfetto)'
)
_REPEATS = flags.DEFINE_integer('repeats', 5, 'repeats of each case', 1)
_JSON = path_flags.define('json', None, 'write the figures to this file')


def main() -> None:
  """Reads the flags and measures."""
  for path in (_JSON.value, _PLOT.value):
    if path and not Path(path).parent.is_dir():
      raise ConfigError(f'{Path(path).parent} is not a folder; create it first')
  if (_PLOT.value or _SWEEP_VALUES.value) and not _SWEEP.value:
    raise ConfigError('--plot and --sweep_values need --sweep')
  passed = True
  if _PHYSICS_ONLY.value:
    rows = physics_rows()
  elif _LAUNCHES.value:
    rows = launch_rows()
  elif _CHECK.value:
    from mjx_crossq.launch.bench import checks  # loads JAX

    rows = checks.run(_REPEATS.value)
    passed = all(row['pass'] for row in rows)
  elif len(_TASK.value) == len(_PHYSICS.value) == 1:
    rows = training_rows(_TASK.value[0], _PHYSICS.value[0])
  else:
    raise ConfigError(
      'only --physics_only takes several tasks or backends at once'
    )
  if _JSON.value:
    write_json(_JSON.value, rows)
  if not passed:
    raise SystemExit(1)


def write_json(path: str, rows: list[dict[str, Any]]) -> None:
  """Writes rows, with what they were measured on.

  Args:
    path: of the file.
    rows: one for each case.
  """
  import jax

  record = {
    'device': jax.devices()[0].device_kind,
    'versions': versions.current(),
    'rows': rows,
  }
  Path(path).write_text(json.dumps(record, indent=2) + '\n')


def physics_rows() -> list[dict[str, Any]]:
  """Times control steps of each task and backend, and prints them.

  Returns:
    A row for each task, backend and number of environments.
  """
  from mjx_crossq.envs.parity import rollouts  # loads JAX

  rows = []
  tasks = cli.expand_tasks(_TASK.value)
  for task, physics in itertools.product(tasks, _PHYSICS.value):
    env = cli.load_env(task, physics, allow_unfaithful=True)
    for num_envs in _NUM_ENVS.value or [1, 32, 1024]:
      speed = rollouts.speed(env, num_envs)
      ratio = speed['steps_per_second'] / speed['c_steps_per_second']
      row = {'task': task, 'physics': physics, 'num_envs': num_envs, **speed}
      rows.append(row | {'ratio_to_c': ratio})
      print(
        f'{task:24} {physics:4} {num_envs:6} envs  '
        f'{speed["steps_per_second"]:12,.0f} steps/s  {ratio:8.3f} of C  '
        f'compiled in {speed["compile_seconds"]:.0f} s',
        flush=True,
      )
  return rows


def launch_rows() -> list[dict[str, Any]]:
  """Times launches and trips of loops, and prints them.

  Returns:
    One row.
  """
  from mjx_crossq.launch.bench import launch_costs  # loads JAX

  row = launch_costs.measure(_REPEATS.value)
  print(
    f'microseconds: {row["us_per_launch"]:.2f} a launch, '
    f'{row["us_per_fixed_trip"]:.2f} a trip of a loop of fixed length, '
    f'{row["us_per_data_trip"]:.2f} a trip of a loop that ends by its data'
  )
  return [row]


def training_rows(task: str, physics: str) -> list[dict[str, Any]]:
  """Times the training program in each configuration of the flags.

  Args:
    task: its name.
    physics: the backend.

  Returns:
    A row for each.
  """
  if _SPLIT.value and _DEVICES.value > 1:
    raise ConfigError('--split times one device; leave --devices out')
  configs = list(_configs(task, physics))
  import jax

  from mjx_crossq.launch.bench import cases as cases_lib  # loads JAX

  devices = cli.devices(_DEVICES.value)
  env = cli.load_env(task, physics, allow_unfaithful=True)
  print(f'{task}, {_PRESET.value} on {jax.devices()[0].device_kind}')
  cases = []
  for config in configs:
    cases.append(cases_lib.Case(config, env, devices=devices))
    print(f'compiled in {cases[-1].compile_seconds:.0f} s', flush=True)
  rows = cases_lib.measure(cases, _REPEATS.value)
  for case, row in zip(cases, rows, strict=True):
    print(_line(row))
    if _SPLIT.value:
      row['split'] = split(case)
    if _PROFILE.value:
      with jax.profiler.trace(_PROFILE.value, create_perfetto_trace=True):
        case.run()
  if _PLOT.value and _SWEEP.value:
    field = SWEEPS[_SWEEP.value][0]
    sweep_plot.draw(rows, field, _PLOT.value)
  return rows


def split(case: Any) -> dict[str, Any]:
  """Times a case's parts, and compares its rates with the device's.

  Args:
    case: compiled and warm.

  Returns:
    Milliseconds by part, the work of the updates, and the device's rates.
  """
  from mjx_crossq.launch.bench import breakdown, timing  # load JAX

  parts = case.split(_REPEATS.value)
  whole = parts['whole']
  for name, ms in parts.items():
    print(f'  {name:12} {ms:10.3f} ms  {ms / whole:7.1%}')
  work = breakdown.work(case.runner)
  ceilings = timing.ceilings(case.config.matmul_precision)
  seconds = 1e-3 * (parts['critic'] + parts['actor'])
  for name, unit in (('flops', 'FLOP/s'), ('bytes', 'B/s')):
    rate, ceiling = work[name] / seconds, ceilings[f'{name}_per_second']
    print(
      f'  critic and actor: {rate / 1e9:,.1f} G{unit}, '
      f'{rate / ceiling:.0%} of the {ceiling / 1e9:,.1f} reached here'
    )
  return {'ms': parts, 'work': work, 'ceilings': ceilings}


def _configs(task: str, physics: str) -> Any:
  """A configuration for each combination of the flags' values."""
  fixed = config_lib.parse_assignments(_SET.value)
  fixed |= {'task': task, 'physics': physics}
  axes: dict[str, Any] = {'num_seeds': _NUM_SEEDS.value}
  if _CAPACITIES.value:
    axes['replay_capacity'] = _CAPACITIES.value
  if _NUM_ENVS.value:
    axes['num_envs'] = _NUM_ENVS.value
  if _SWEEP.value:
    field, values = SWEEPS[_SWEEP.value]
    if len(axes.get(field, [])) > 1:
      raise ConfigError(f'--sweep={_SWEEP.value} sets {field}; leave it out')
    texts = _SWEEP_VALUES.value or map(str, values)
    assignments = [f'{field}={text}' for text in texts]
    axes[field] = [
      config_lib.parse_assignments([text])[field] for text in assignments
    ]
  for values in itertools.product(*axes.values()):
    changes = {**fixed, **dict(zip(axes, values, strict=True))}
    yield config_lib.from_preset(_PRESET.value, **changes)


def _line(row: dict[str, Any]) -> str:
  memory = '  '.join(
    f'{name} {row["memory"][name] / 2**20:,.0f}' for name in _PARTS_OF_MEMORY
  )
  return (
    f'{row["num_seeds"]} seeds x {row["num_envs"]} envs, UTD {row["utd"]}, '
    f'width {row["critic_width"]}, capacity {row["replay_capacity"]:,}: '
    f'{row["ms_per_iteration"]:.3f} ms/iteration (spread {row["spread"]:.0%}), '
    f'{row["env_steps_per_second"]:,.0f} env steps/s, '
    f'{row["updates_per_second"]:,.0f} updates/s, MiB: {memory}'
  )


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
