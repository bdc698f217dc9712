"""What a list of runs will cost, from measured speeds."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What a speed depends on, beside the task and the UTD.
_ALIKE = ('preset', 'num_seeds', 'num_envs', 'critic_width')


def read(paths: Iterable[str]) -> list[dict[str, Any]]:
  """Rows of `launch.benchmark --json`.

  Args:
    paths: of the files.

  Raises:
    ConfigError: a file cannot be read, or holds no speeds of training.
  """
  from mjx_crossq.config import ConfigError

  rows = []
  for path in paths:
    try:
      found = json.loads(Path(path).read_text(encoding='utf-8'))['rows']
      for row in found:
        for name in ('task', 'utd', 'updates_per_second', *_ALIKE):
          row[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ConfigError(
        f'--benchmark={path} has no speeds of training ({error!r}); make it '
        'with python -m launch.benchmark --task=... --preset=... --json=FILE'
      ) from None
    rows += found
  return rows


def nearest(
  config: Any, speeds: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
  """The measured case most like a run: its task before its UTD.

  Args:
    config: the run.
    speeds: as `read` gives them.

  Returns:
    A row of the same preset, width and numbers of seeds and environments;
    None if there is none.
  """
  alike = [
    row
    for row in speeds
    if all(row[name] == getattr(config, name) for name in _ALIKE)
  ]
  return min(
    alike,
    key=lambda row: (
      row['task'] != config.task,
      abs(math.log(row['utd'] / config.utd)),
    ),
    default=None,
  )


def updates(config: Any, step: int = 0) -> int:
  """Critic updates per seed from an env step to the end of a run.

  Args:
    config: the run.
    step: env step that it has reached.
  """
  done = step // config.steps_per_iteration
  return config.updates_at(config.iterations) - config.updates_at(done)


def hours(
  config: Any, speeds: Sequence[Mapping[str, Any]], step: int = 0
) -> float | None:
  """Hours of training, without compilation, warm-up and evaluations.

  Args:
    config: the run.
    speeds: as `read` gives them.
    step: env step that it has reached.

  Returns:
    None where no speed was measured.
  """
  row = nearest(config, speeds)
  if row is None:
    return None
  return updates(config, step) / row['updates_per_second'] / 3600


def report(
  folders: Mapping[Any, Path],
  speeds: Sequence[Mapping[str, Any]],
  allow_unfaithful: bool = False,
  here: bool = True,
) -> None:
  """Prints what each run is, costs and has reached, and the sums.

  Args:
    folders: of the runs, by their configurations.
    speeds: as `read` gives them.
    allow_unfaithful: whether tasks may differ from stock.
    here: whether they run on this machine, whose memory they must fit.

  Raises:
    ConfigError: a run cannot start: its task, its folder or its memory.
  """
  from mjx_crossq.launch.jobs import jobs

  print(
    f'{"run":44} {"seeds":>5} {"env steps":>10} {"updates left":>13} '
    f'{"MiB":>7} {"hours":>7}'
  )
  budgets, total, left = budgets_of(folders, allow_unfaithful), 0, 0.0
  unmeasured = []
  for config, folder in folders.items():
    step = jobs.reached(config, folder)
    count = updates(config, step) * config.num_seeds
    time = hours(config, speeds, step)
    row = nearest(config, speeds)
    total += count
    left += time or 0
    if time is None and count:
      unmeasured.append(config)
    print(
      f'{jobs.title(config):44} {config.num_seeds:5} '
      f'{config.env_steps:10,} {count:13,} '
      f'{budgets[config].total / 2**20:7,.0f} '
      f'{"-" if time is None else f"{time:.2f}":>7}  '
      + _progress(step, jobs.complete(config, folder))
      + (f', speed of {row["task"]} at UTD {row["utd"]}' if row else '')
    )
  largest = max(budgets.values(), key=lambda budget: budget.total)
  print(
    f'{len(folders)} runs one after the other: {total:,} updates of single '
    f'seeds, {largest.total / 2**20:,.0f} MiB at most'
    + (
      f' of {largest.available / 2**20:,.0f}'
      if here and largest.available
      else ''
    )
  )
  if speeds:
    print(
      f'{left:,.1f} hours for the runs with a measured speed, without '
      'compilation, warm-up and evaluations'
    )
  if unmeasured:
    print(
      f'no speed was measured for {len(unmeasured)}; such as by\n  '
      + _command(unmeasured[-1])
    )
  if here:
    largest.check()


# On what the memory of a run does not depend.
_NOT_IN_MEMORY = {
  'utd': 1,
  'seed': 0,
  'env_steps': 1_000_000,
  'reset_every': 0,
  'reset_at': (),
}


def budgets_of(
  runs: Iterable[Any], allow_unfaithful: bool = False
) -> dict[Any, Any]:
  """The memory of each run; nothing is computed on a device.

  Args:
    runs: configurations.
    allow_unfaithful: whether tasks may differ from stock.

  Raises:
    ConfigError: a task and a configuration do not fit together.
  """
  from mjx_crossq.device.budget import Budget
  from mjx_crossq.device.runner import Runner
  from mjx_crossq.launch import cli

  envs: dict[Any, Any] = {}
  found: dict[Any, Any] = {}
  result: dict[Any, Any] = {}
  for config in runs:
    alike = config.replace(**_NOT_IN_MEMORY)
    if alike not in found:
      of_env = (config.task, config.physics)
      if of_env not in envs:
        envs[of_env] = cli.load_env(*of_env, allow_unfaithful=allow_unfaithful)
      state = Runner(alike, envs[of_env]).abstract_state()
      found[alike] = Budget.of(state)
    result[config] = found[alike]
  return result


def _progress(step: int, complete: bool) -> str:
  if not step:
    return 'missing'
  return 'complete' if complete else f'at {step:,}'


def _command(config: Any) -> str:
  """How the speed of a run is measured."""
  return (
    f'python -m launch.benchmark --task={config.task} '
    f'--preset={config.preset} --physics={config.physics} '
    f'--num_seeds={config.num_seeds} --set=utd={config.utd} '
    f'--set=critic_width={config.critic_width} --json=speeds.json, and '
    '--benchmark=speeds.json here'
  )
