"""Times the training program, or the physics alone.

    python -m launch.benchmark --task=cheetah-run --num_seeds=10
    python -m launch.benchmark --physics_only --task=paper --physics=mjx,warp

Repeats are interleaved, compile and warm-up excluded; medians and spread are
printed and, with --json, written.
"""

import itertools
import json
import statistics
import time
from pathlib import Path
from typing import Any

from absl import flags

from launch import cli

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
  'num_envs', [1, 32, 1024], 'environments with --physics_only; repeatable', 1
)
_PRESET = flags.DEFINE_string('preset', 'crossq_wn', 'preset')
_NUM_SEEDS = flags.DEFINE_multi_integer(
  'num_seeds', [1], 'seeds in the program; repeat for several'
)
_SET = flags.DEFINE_multi_string('set', [], 'key=value; repeatable')
_CAPACITIES = flags.DEFINE_multi_integer(
  'capacity', [], 'replay capacities to compare, in env steps; repeatable'
)
_UPDATES = flags.DEFINE_integer('updates', 400, 'updates of one repeat')
_REPEATS = flags.DEFINE_integer('repeats', 5, 'repeats of each case')
_JSON = flags.DEFINE_string('json', None, 'write the figures to this file')


def main() -> None:
  """Reads the flags and measures."""
  from mjx_crossq import ConfigError

  if _PHYSICS_ONLY.value:
    rows = physics_rows()
  elif len(_TASK.value) == len(_PHYSICS.value) == 1:
    rows = training_rows(_TASK.value[0], _PHYSICS.value[0])
  else:
    raise ConfigError(
      'only --physics_only takes several tasks or backends at once'
    )
  if _JSON.value:
    write_json(_JSON.value, rows)


def write_json(path: str, rows: list[dict[str, Any]]) -> None:
  """Writes rows, with what they were measured on.

  Args:
    path: of the file.
    rows: one for each case.
  """
  import jax

  from mjx_crossq import logging

  record = {
    'device': jax.devices()[0].device_kind,
    'versions': logging.versions(),
    'rows': rows,
  }
  Path(path).write_text(json.dumps(record, indent=2) + '\n')


def physics_rows() -> list[dict[str, Any]]:
  """Times control steps of each task and backend; prints as it goes.

  Returns:
    A row for each task, backend and number of environments.
  """
  import envs
  from envs import rollouts
  from mjx_crossq import ConfigError

  rows = []
  tasks = cli.expand_tasks(_TASK.value)
  for task, physics in itertools.product(tasks, _PHYSICS.value):
    try:
      env: Any = envs.load(task, allow_unfaithful=True, physics=physics)
    except ValueError as error:
      raise ConfigError(error) from None
    for num_envs in _NUM_ENVS.value:
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


def training_rows(task: str, physics: str) -> list[dict[str, Any]]:
  """Times the training program in each configuration that the flags name.

  Args:
    task: its name.
    physics: the backend.

  Returns:
    A row for each.
  """
  import jax

  import envs
  from mjx_crossq import ConfigError, config

  changes = config.parse_assignments(_SET.value)
  capacities = _CAPACITIES.value or [None]
  cases = []
  for num_seeds in _NUM_SEEDS.value:
    for capacity in capacities:
      settings = {
        **changes,
        'task': task,
        'physics': physics,
        'num_seeds': num_seeds,
      }
      if capacity is not None:
        settings['replay_capacity'] = capacity
      cases.append(config.from_preset(_PRESET.value, **settings))
  try:
    env = envs.load(task, allow_unfaithful=True, physics=physics)
  except ValueError as error:
    raise ConfigError(error) from None

  device = jax.devices()[0]
  print(f'{task}, {_PRESET.value} on {device.device_kind}')
  runs = [Case(case, env) for case in cases]
  for _ in range(_REPEATS.value):
    for run in runs:
      run.measure(_UPDATES.value)
  rows = [run.summary() for run in runs]
  for row in rows:
    print('  '.join(f'{k}={v}' for k, v in row.items()))
  return [{'task': task, 'preset': _PRESET.value, **row} for row in rows]


class Case:
  """One configuration: its compiled program and its measurements."""

  def __init__(self, config: Any, env: Any):
    """Compiles, and fills the replay with the warm-up."""
    import jax

    from mjx_crossq import Runner

    self._config = config
    self._runner = Runner(config, env)
    start = time.monotonic()
    self._state = self._runner.init()
    self._state, _ = self._runner.train_chunk(self._state, 0)
    jax.block_until_ready(self._state)
    self._compile_seconds = time.monotonic() - start
    self._at = config.warmup_iterations
    self._state, _ = self._runner.train_chunk(self._state, self._at)
    jax.block_until_ready(self._state)
    self._seconds: list[float] = []

  def measure(self, updates: int) -> None:
    """Times one chunk of about `updates` updates."""
    import jax

    chunk = max(1, updates // self._config.updates_per_iteration)
    start = time.monotonic()
    self._state, _ = self._runner.train_chunk(self._state, self._at + chunk)
    jax.block_until_ready(self._state)
    self._seconds.append((time.monotonic() - start) / chunk)
    self._at += chunk

  def summary(self) -> dict[str, Any]:
    """Medians over the repeats; spread is (max - min) / median."""
    c = self._config
    median = statistics.median(self._seconds)
    spread = (max(self._seconds) - min(self._seconds)) / median
    return {
      'num_seeds': c.num_seeds,
      'num_envs': c.num_envs,
      'utd': c.utd,
      'critic_width': c.critic_width,
      'replay_capacity': c.replay_capacity,
      'compile_seconds': round(self._compile_seconds, 1),
      'ms_per_iteration': round(1e3 * median, 3),
      'env_steps_per_second': round(c.steps_per_iteration / median, 1),
      'updates_per_second': round(c.updates_per_iteration / median, 1),
      'spread': round(spread, 2),
    }


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
