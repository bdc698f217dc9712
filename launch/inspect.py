"""Compiles the training program for a chip, here or not, and counts it.

    python -m launch.inspect --target=h100 --task=cheetah-run --num_seeds=10
    python -m launch.inspect --target=v5e --task=walker-run --by=function
    python -m launch.inspect --target=h100 --task=dog-run --json=dog.json

XLA's compilers for GPUs and TPUs run on a CPU: launches, copies, memory and
decisions that wait for the host are read from the optimised program. Nothing
is run, so that no time is measured; docs/inspect.md explains the figures.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq import versions
from mjx_crossq.errors import ConfigError
from mjx_crossq.launch import cli, config_flags, path_flags
from mjx_crossq.launch.bench import inspection, parts, targets

_TARGET = flags.DEFINE_enum(
  'target', 'here', list(targets.TARGETS), 'chip to compile for'
)
_ITERATIONS = flags.DEFINE_float(
  'solver_iterations',
  3.0,
  'iterations of the constraint solver that are assumed, where their number '
  'depends on the data',
  0.0,
)
_BY = flags.DEFINE_enum(
  'by', None, ['function'], 'launches by Python function too'
)
_ROWS = flags.DEFINE_integer('rows', 40, 'rows of --by', 1)
_JSON = path_flags.define('json', None, 'write the figures to this file')
_HLO = path_flags.define('hlo', None, 'write the program to this file')

_MIB = 2**20
_FRAMES = 100
"""Python functions that are kept of a stack; JAX's default hides the outer."""


def prepare() -> None:
  """Looks for the compiler, and sets what it reads before JAX starts."""
  try:
    targets.prepare(_TARGET.value)
  except targets.MissingCompilerError as error:
    cli.fail(error)


def main() -> None:
  """Reads the flags, compiles and prints."""
  import jax  # after `prepare`

  for path in (_JSON.value, _HLO.value):
    if path and not Path(path).parent.is_dir():
      raise ConfigError(f'{Path(path).parent} is no folder; make it first')
  target = targets.TARGETS[_TARGET.value]
  config = config_flags.config(accelerator=target.platform != 'cpu')
  jax.config.update('jax_traceback_in_locations_limit', _FRAMES)
  with targets.traced_for(target):
    env = cli.load_env(config.task, config.physics, allow_unfaithful=True)
    found = inspection.inspect(
      config, env, target, targets.device(target), _ITERATIONS.value
    )
  if _HLO.value:
    Path(_HLO.value).write_text(found.text)
  _print(found)
  if _JSON.value:
    record = {**found.record, 'versions': versions.current()}
    Path(_JSON.value).write_text(json.dumps(record, indent=2) + '\n')


def _print(found: Any) -> None:
  """The report."""
  r = found.record
  seeds = f'{r["num_seeds"]} seed{"s" if r["num_seeds"] > 1 else ""}'
  print(
    f'{r["task"]}, {r["preset"]}, {seeds}, for {r["target"]}: traced in '
    f'{r["trace_seconds"]:.0f} s, compiled in {r["compile_seconds"]:.0f} s\n'
  )
  print(
    f'  {"a decision, by part":18} {"launches":>9} {"libraries":>9} '
    f'{"copies":>9} {"conditions":>10} {"MiB moved":>10} {"GFLOP":>9}'
  )
  whole = parts.Counts(
    launches=r['launches_per_decision'],
    library_calls=r['library_calls_per_decision'],
    copies=r['copies_per_decision'],
    control=r['conditions_per_decision'],
    bytes=r['bytes_per_decision'],
    flops=r['flops_per_decision'],
  )
  for name, n in {**found.by_part, 'all': whole}.items():
    print(
      f'  {name:18} {n.launches:9,.1f} {n.library_calls:9,.1f} '
      f'{n.copies:9,.1f} {n.control:10,.1f} {n.bytes / _MIB:10,.1f} '
      f'{n.flops / 1e9:9,.3f}'
    )
  iteration = r['launches_per_solver_iteration']
  print(
    f'\nlaunches: {r["launches_per_update"]:,.1f} an update, '
    f'{r["launches_per_physics_step"]:,.1f} a physics step without its solver'
    + ('' if iteration is None else f', {iteration:,.1f} a solver iteration')
    + f';\n  {r["launches_per_physics_step_with_solver"]:,.1f} a physics step '
    f'and {r["launches_per_decision"]:,.0f} a decision, with '
    f'{r["solver_iterations"]:g} solver iterations where data decide'
  )
  if r['most_launches_per_decision'] is not None:
    print(
      f'  at most {r["most_launches_per_decision"]:,.0f} a decision, with '
      f'{r["most_solver_iterations"]:g} iterations'
    )
  print(
    f'host round trips: {r["host_round_trips_per_decision"]:,.1f} a decision'
  )
  for loop in r['loops_assumed_to_run_once']:
    print(f'  a loop of unknown length is counted once: {loop}')
  print(f'copies of an array of the size of the replay: {r["replay_copies"]}')
  for copy in r['replay_copies_are']:
    print(f'  {copy}')
  memory = ', '.join(
    f'{name} {r[f"{name}_bytes"] / _MIB:,.1f}'
    for name in ('argument', 'donated', 'output', 'temporary')
    if r[f'{name}_bytes'] is not None
  )
  print(f'memory, MiB: {memory}')
  print(
    f'estimate, not a measurement: at least '
    f'{r["estimated_floor_ms_per_decision"]:.2f} ms a decision '
    f'(launches at {r["assumed_launch_us"]:g} us and round trips at '
    f'{r["assumed_round_trip_us"]:g} us: {r["estimate_of_launches_ms"]:.2f}; '
    f'arithmetic and memory: {r["estimate_of_work_ms"]:.2f})'
  )
  if _BY.value == 'function':
    _print_functions(found)


def _print_functions(found: Any) -> None:
  """Launches a decision by part and Python function."""
  rows = parts.by_function(found.walk, found.runs)
  print(f'\n  {"launches":>9}  {"part":18} function')
  for part, name, count in rows[: _ROWS.value]:
    print(f'  {count:9,.1f}  {part:18} {name}')
  rest = sum(count for *_, count in rows[_ROWS.value :])
  if rest:
    print(f'  {rest:9,.1f}  in {len(rows) - _ROWS.value} more; see --rows')


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__, prepare)


if __name__ == '__main__':
  run()
