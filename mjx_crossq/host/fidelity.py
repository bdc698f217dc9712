"""Runs that end where the physics left something out."""

from collections.abc import Mapping

import numpy as np

from mjx_crossq.config import Config
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError, RunError


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
      'docs/environments.md, by backend; to go on all the same: '
      '--resume without --stop_if_unfaithful'
    )
