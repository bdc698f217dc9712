"""Times the training program: compile, env steps and updates, replay size.

    python -m launch.benchmark --task=cheetah-run --num_seeds=10

Repeats are interleaved, compile and warm-up excluded; medians and spread are
printed and, with --json, written.
"""

import json
import statistics
import time
from pathlib import Path
from typing import Any

from absl import flags

from launch import cli

_TASK = flags.DEFINE_string('task', 'cartpole-swingup', 'task')
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
  import jax

  import envs
  from mjx_crossq import ConfigError, config, logging

  changes = config.parse_assignments(_SET.value)
  capacities = _CAPACITIES.value or [None]
  cases = []
  for num_seeds in _NUM_SEEDS.value:
    for capacity in capacities:
      settings = {**changes, 'task': _TASK.value, 'num_seeds': num_seeds}
      if capacity is not None:
        settings['replay_capacity'] = capacity
      cases.append(config.from_preset(_PRESET.value, **settings))
  try:
    env = envs.load(_TASK.value, allow_unfaithful=True)
  except ValueError as error:
    raise ConfigError(error) from None

  device = jax.devices()[0]
  print(f'{_TASK.value}, {_PRESET.value} on {device.device_kind}')
  runs = [Case(case, env) for case in cases]
  for _ in range(_REPEATS.value):
    for run in runs:
      run.measure(_UPDATES.value)
  rows = [run.summary() for run in runs]
  for row in rows:
    print('  '.join(f'{k}={v}' for k, v in row.items()))
  if _JSON.value:
    record = {
      'device': device.device_kind,
      'versions': logging.versions(),
      'task': _TASK.value,
      'preset': _PRESET.value,
      'rows': rows,
    }
    Path(_JSON.value).write_text(json.dumps(record, indent=2) + '\n')


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
