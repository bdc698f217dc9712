"""The records that a log point adds to `metrics.jsonl`."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from mjx_crossq.device.runner import Runner
from mjx_crossq.device.sums import mean_metrics


def of_training(
  sums: Mapping[str, np.ndarray],
  last_returns: np.ndarray,
  frozen: np.ndarray,
) -> dict[str, np.ndarray]:
  """The metrics since the last log point by the names of their series.

  Args:
    sums: of the metrics, `(rows,)` each.
    last_returns: of each row's last training episodes, `(rows,)`.
    frozen: whether a row has stopped learning, `(rows,)`.
  """
  found = {
    'train/episode_return': last_returns,
    'train/frozen': frozen.astype(np.int32),
  }
  for name, values in mean_metrics(sums).items():
    found[f'train/{name}'] = values
  return found


def mean_returns(last_returns: np.ndarray) -> np.ndarray:
  """The mean over environments that have finished an episode, `(rows,)`.

  Args:
    last_returns: `(rows, num_envs)`, NaN before the first whole episode.
  """
  finished = np.sum(~np.isnan(last_returns), axis=1, dtype=last_returns.dtype)
  with np.errstate(invalid='ignore'):
    return np.nansum(last_returns, axis=1) / finished


def of_rows(
  runner: Runner,
  iteration: int,
  measured: Mapping[str, np.ndarray],
  speeds: Mapping[str, float],
) -> Iterator[dict[str, Any]]:
  """One record for each row.

  Args:
    runner: of the run.
    iteration: the current one.
    measured: `(rows,)` by series.
    speeds: that all rows share.
  """
  c = runner.config
  for index, seed in enumerate(runner.seeds):
    yield {
      'seed': seed,
      'env_step': iteration * c.steps_per_iteration,
      'decision': iteration * c.num_envs,
      'update': c.updates_at(iteration),
      **{name: values[index] for name, values in measured.items()},
      **speeds,
    }
