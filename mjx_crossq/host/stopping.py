"""Which evaluation ends a run, and which policy is the best so far."""

from collections.abc import Callable, Mapping

import numpy as np

from mjx_crossq.config import Config
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError, RunError

Returns = Mapping[str, np.ndarray]
"""Of an evaluation, `(seeds, episodes)` by physics."""

Stop = Callable[[int, Returns], bool]
"""Whether a run ends with an evaluation: of the env step of the policy, and its
returns with the six digits of `eval.csv`, as a resumed run reads them there."""


def means(config: Config, returns: Returns) -> np.ndarray:
  """The mean return of each seed, `(seeds,)`.

  In stock dm_control if the task has it, otherwise in the run's own physics.

  Args:
    config: of the run.
    returns: of an evaluation.
  """
  found = returns.get('dm_control', returns.get(config.physics))
  assert found is not None
  return found.mean(axis=1)


def reached(config: Config, returns: Returns) -> bool:
  """Whether an evaluation has the return at which the run is to end.

  Args:
    config: its `stop_at_return` and `stop_when` say so.
    returns: of an evaluation.
  """
  if not config.stop_at_return:
    return False
  there = means(config, returns) >= config.stop_at_return
  return bool(there.all() if config.stop_when == 'all' else there.any())


def rounded(returns: Returns) -> dict[str, np.ndarray]:
  """Returns with the digits that `eval.csv` has."""
  return {
    physics: np.vectorize(lambda x: float(f'{x:.6g}'))(values)
    for physics, values in returns.items()
  }


def check_watched(config: Config, env: Env) -> None:
  """Checks that `stop_if_unfaithful` has something to look at.

  Args:
    config: of the run.
    env: its environment.

  Raises:
    ConfigError: the environment counts nothing.
  """
  if config.stop_if_unfaithful and not env.watched:
    raise ConfigError(
      f'stop_if_unfaithful: {env.name} with physics={config.physics} counts '
      'neither contacts nor solver iterations; leave --stop_if_unfaithful out'
    )


def check_faithful(
  config: Config, env: Env, measured: Mapping[str, np.ndarray], step: int
) -> None:
  """Ends a run whose physics left something out, if it is to end then.

  Args:
    config: of the run.
    env: its environment.
    measured: since the last log point, `(rows,)` by series.
    step: the env step.

  Raises:
    RunError: with the counts.
  """
  if not config.stop_if_unfaithful:
    return
  counts = {name: np.sum(measured[f'train/{name}']) for name in env.watched}
  found = [f'{name} {count:.0f}' for name, count in counts.items() if count]
  if found:
    raise RunError(
      f'the physics of {env.name} left something out before env step {step:,}, '
      f'in all seeds since the last log point: {", ".join(found)}. More room: '
      'envs/mjx/models.py (docs/environments.md); to go on all the same: '
      '--resume without --stop_if_unfaithful'
    )
