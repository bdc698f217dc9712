"""The training program of a configuration, compiled for a chip and counted."""

import dataclasses
import time
from typing import Any

from mjx_crossq.config import Config
from mjx_crossq.launch.bench import hlo, parts, work
from mjx_crossq.launch.bench.targets import Target


@dataclasses.dataclass(frozen=True)
class Inspection:
  """A compiled program and what was counted in it.

  Attributes:
    record: the figures, by the names that --json has.
    by_part: of a decision.
    walk: over the program.
    runs: the instructions of a decision.
    text: the program.
  """

  record: dict[str, Any]
  by_part: dict[str, parts.Counts]
  walk: parts.Walk
  runs: list[parts.Run]
  text: str


def inspect(
  config: Config, env: Any, target: Target, device: Any, iterations: float
) -> Inspection:
  """Compiles a training program and counts.

  Args:
    config: the configuration.
    env: its environment.
    target: the chip.
    device: of the chip, from `targets.device`.
    iterations: of the constraint solver, assumed where they depend on data.
  """
  import jax

  from mjx_crossq.device.runner import Runner

  runner = Runner(config, env, platform=target.backend)
  start = time.monotonic()
  traced = runner.trace_train_chunk(device)
  lowered = traced.lower(lowering_platforms=(target.platform,))
  traced_at = time.monotonic()
  compiled = lowered.compile()
  compiled_at = time.monotonic()
  text = compiled.as_text()

  frequencies = parts.Frequencies(
    updates=config.updates_per_iteration,
    policy_delay=config.policy_delay,
    begins=(
      1.0  # what others' environments do is not known
      if env.terminates
      else config.groups * config.action_repeat / env.episode_length
    ),
    physics_steps=config.action_repeat * getattr(env, 'substeps', 1),
    solver_iterations=iterations,
    update_every=config.update_every,
  )
  model = getattr(env, 'mj_model', None)
  found = count(
    text,
    frequencies,
    target,
    sizes={
      leaf.size for leaf in jax.tree.leaves(runner.abstract_state().replay)
    },
    most_iterations=model.opt.iterations if model else None,
  )
  of_config = {
    name: getattr(config, name)
    for name in ('task', 'num_seeds', 'preset', 'physics')
  }
  of_compiler = {
    'trace_seconds': traced_at - start,
    'compile_seconds': compiled_at - traced_at,
    **_memory(compiled),
    'xla_costs_of_the_text': _costs(compiled),
  }
  found.record.update(of_config | of_compiler)
  return found


def count(
  text: str,
  frequencies: parts.Frequencies,
  target: Target,
  sizes: set[int],
  most_iterations: float | None = None,
) -> Inspection:
  """Counts what a compiled training program runs.

  Args:
    text: of the program.
    frequencies: what it does not say.
    target: the chip.
    sizes: elements of the replay's arrays.
    most_iterations: of the constraint solver, if they are limited.
  """
  module = hlo.parse(text)
  walk = parts.Walk(module, frequencies)
  runs = list(walk.decision())
  by_part = parts.by_part(module, runs)
  conditions = _total(by_part, 'control')
  record = {
    'target': target.name,
    'updates_per_decision': frequencies.updates_per_decision,
    'physics_steps_per_decision': frequencies.physics_steps,
    'solver_iterations': frequencies.solver_iterations,
    **launches(walk, runs, by_part),
    'most_solver_iterations': most_iterations,
    'most_launches_per_decision': (
      None
      if most_iterations is None
      else _launches_with(module, frequencies, most_iterations)
    ),
    'host_round_trips_per_decision': (
      conditions if target.host_control else 0.0
    ),
    'conditions_per_decision': conditions,
    **{
      f'{name}_per_decision': _total(by_part, name)
      for name in ('library_calls', 'copies', 'bytes', 'flops')
    },
    **copies_of_replay(walk, runs, sizes),
    'parts': {name: dataclasses.asdict(c) for name, c in by_part.items()},
    'loops_assumed_to_run_once': walk.unknown,
  }
  record |= estimate(record, target)
  return Inspection(record, by_part, walk, runs, text)


def _launches_with(
  module: hlo.Module, frequencies: parts.Frequencies, iterations: float
) -> float:
  """Launches of a decision with another number of solver iterations."""
  changed = dataclasses.replace(frequencies, solver_iterations=iterations)
  runs = parts.Walk(module, changed).decision()
  return sum(run.place.times for run in runs if not run.control)


def launches(
  walk: parts.Walk, runs: list[parts.Run], by_part: dict[str, parts.Counts]
) -> dict[str, float | None]:
  """Launches per update, physics step, solver iteration and decision."""
  known = walk.frequencies
  solver, physics = by_part[parts.SOLVER], by_part[parts.PHYSICS]
  steps = known.physics_steps
  updating = sum(
    run.place.times for run in runs if run.place.updating and not run.control
  )
  iterations = walk.solver_iterations
  return {
    'launches_per_decision': _total(by_part, 'launches'),
    'launches_per_update': updating / known.updates_per_decision,
    'launches_per_physics_step': physics.launches / steps,
    'launches_per_solver_iteration': (
      solver.launches / iterations if iterations else None
    ),
    'launches_per_physics_step_with_solver': (
      (physics.launches + solver.launches) / steps
    ),
  }


def copies_of_replay(
  walk: parts.Walk, runs: list[parts.Run], sizes: set[int]
) -> dict[str, Any]:
  """Where an array of the replay's size is written whole.

  Args:
    walk: over the program.
    runs: the instructions of a decision.
    sizes: elements of the replay's arrays.

  Returns:
    How many instructions, those outside the loop included; how many of them
    a decision runs; and which they are.
  """

  def of_replay(run):
    return not run.control and any(
      work.makes_anew(walk.module, run.instruction, size) for size in sizes
    )

  inside = [run for run in runs if of_replay(run)]
  outside = [run for run in walk.around() if of_replay(run)]
  return {
    'replay_copies': len(inside) + len(outside),
    'replay_copies_per_decision': sum(run.place.times for run in inside),
    'replay_copies_are': [
      f'{run.instruction.name}, {where}'
      for found, where in ((inside, 'every decision'), (outside, 'every chunk'))
      for run in found
    ],
  }


def estimate(record: dict[str, Any], target: Target) -> dict[str, Any]:
  """A floor of the milliseconds of a decision, from what was counted.

  Launches and the host's round trips follow one another at an assumed cost
  each; arithmetic and traffic, at the chip's highest rates, cannot both take
  less than the longer of the two. An estimate, and nothing that was measured.

  Args:
    record: the figures.
    target: the chip.
  """
  control = 1e-3 * (
    record['launches_per_decision'] * target.launch_us
    + record['host_round_trips_per_decision'] * target.round_trip_us
  )
  work_ms = 0.0
  if target.flops and target.bandwidth:
    work_ms = 1e3 * max(
      record['flops_per_decision'] / target.flops,
      record['bytes_per_decision'] / target.bandwidth,
    )
  return {
    'estimated_floor_ms_per_decision': max(control, work_ms),
    'estimate_of_launches_ms': control,
    'estimate_of_work_ms': work_ms,
    'assumed_launch_us': target.launch_us,
    'assumed_round_trip_us': target.round_trip_us,
  }


def _total(by_part: dict[str, parts.Counts], name: str) -> float:
  return sum(getattr(counts, name) for counts in by_part.values())


def _memory(compiled: Any) -> dict[str, int | None]:
  """What the program holds; None where the compiler does not say."""
  stats = compiled.memory_analysis()
  return {
    f'{ours}_bytes': getattr(stats, f'{theirs}_size_in_bytes', None)
    for ours, theirs in (
      ('argument', 'argument'),
      ('donated', 'alias'),
      ('output', 'output'),
      ('temporary', 'temp'),
    )
  }


def _costs(compiled: Any) -> dict[str, float] | None:
  """XLA's own figures, each loop without known trips counted once."""
  costs: Any = compiled.cost_analysis()
  if isinstance(costs, list):  # one for each device
    costs = costs[0] if costs else None
  if not costs:
    return None
  return {
    name.replace(' ', '_'): float(costs[name])
    for name in ('flops', 'bytes accessed')
    if name in costs
  }
