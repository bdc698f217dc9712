"""Which evaluation ends a run, and which policy is the best so far."""

from collections.abc import Callable, Mapping

import numpy as np

from mjx_crossq.config import Config

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
