"""Hours of training, from measured speeds.

A program that trains `n` seeds takes `fixed + per_seed * n` seconds for an
update of all of them. Both numbers are fitted to rows of `launch.benchmark`;
docs/scaling.md explains the model.
"""

import dataclasses
import heapq
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq.config import Config, ConfigError

# A measured row describes runs that have the same values of these fields.
_ALIKE = ('preset', 'num_envs', 'critic_width')

Row = Mapping[str, Any]
"""A row of `launch.benchmark --json`."""


def read(paths: Iterable[str]) -> list[Row]:
  """Rows of `launch.benchmark --json`.

  Args:
    paths: of the files.

  Raises:
    ConfigError: a file cannot be read or contains no speeds of training.
  """
  rows = []
  for path in paths:
    try:
      found = json.loads(Path(path).read_text(encoding='utf-8'))['rows']
      for row in found:
        for name in ('task', *_ALIKE):
          row[name]
        for name in ('utd', 'num_seeds', 'updates_per_second'):
          if not 0 < float(row[name]) < math.inf:
            raise ValueError(f'{name}={row[name]}')
    except (OSError, ValueError, KeyError, TypeError) as error:
      raise ConfigError(
        f'--benchmark={path} contains no speeds of training ({error!r}); make '
        'it with python -m launch.benchmark --task=... --preset=... --json=FILE'
      ) from None
    rows += found
  return rows


@dataclasses.dataclass(frozen=True)
class Speed:
  """The time of an update of all seeds of a program on one device.

  Attributes:
    fixed: seconds, independent of the number of seeds.
    per_seed: seconds for each seed.
    source: what was measured: task, UTD and numbers of seeds.
    error: largest relative error of the model at the measured points.
  """

  fixed: float
  per_seed: float
  source: str = ''
  error: float = 0.0

  def seconds(self, seeds: float) -> float:
    """The time of an update of so many seeds."""
    return self.fixed + self.per_seed * seeds


def fit(rows: Sequence[Row]) -> Speed:
  """Fits the model to measurements by least squares of the relative error.

  Neither coefficient may be negative. One number of seeds gives a time
  proportional to the seeds.

  Args:
    rows: measurements, one or more, that differ only in the number of seeds.
  """
  n = np.array([row['num_seeds'] for row in rows], float)
  t = np.array([1 / row['updates_per_second'] for row in rows])
  fixed, per_seed = 0.0, float(np.sum(n / t) / np.sum((n / t) ** 2))
  if len(set(n)) > 1:
    columns = np.stack([np.ones_like(n), n], 1) / t[:, None]
    found = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)[0]
    if found.min() >= 0:
      fixed, per_seed = map(float, found)
    elif found[1] < 0:  # more seeds did not take longer
      fixed, per_seed = float(np.sum(1 / t) / np.sum(1 / t**2)), 0.0
  seeds = ', '.join(str(int(count)) for count in sorted(set(n)))
  return Speed(
    fixed,
    per_seed,
    f'{rows[0]["task"]} at UTD {rows[0]["utd"]}, {seeds} seed(s)',
    float(np.max(np.abs((fixed + per_seed * n) / t - 1))),
  )


def speed_of(config: Config, rows: Sequence[Row]) -> Speed | None:
  """The speed of a run, from the measurements that are most like it.

  Args:
    config: the run.
    rows: measurements.

  Returns:
    The model fitted to rows of the same preset, width and number of
    environments: those of the same task, or else of any one task, with the
    nearest UTD. None if there are no such rows.
  """
  alike = [
    row
    for row in rows
    if all(row[name] == getattr(config, name) for name in _ALIKE)
  ]
  if not alike:
    return None

  def distance(row: Row) -> tuple[bool, float]:
    return row['task'] != config.task, abs(math.log(row['utd'] / config.utd))

  best = min(alike, key=distance)
  return fit(
    [r for r in alike if all(r[name] == best[name] for name in ('task', 'utd'))]
  )


def updates(config: Config, step: int = 0) -> int:
  """Critic updates of each seed from an env step to the end of a run.

  Args:
    config: the run.
    step: env step that it has reached.
  """
  done = step // config.steps_per_iteration
  return config.updates_at(config.iterations) - config.updates_at(done)


def hours(config: Config, speed: Speed, step: int = 0) -> float:
  """Hours of training, without compilation, warm-up and evaluations.

  Args:
    config: the run.
    speed: of its updates.
    step: env step that it has reached.
  """
  rows = len(config.combinations) * config.num_seeds
  return updates(config, step) * speed.seconds(rows) / 3600


@dataclasses.dataclass(frozen=True)
class Cell:
  """The work of a cell of a grid.

  Attributes:
    updates: of each seed.
    seeds: how many.
    most: seeds that fit one device.
    speed: of an update of all rows of a program.
    variants: rows of each seed (`vary.py`).
  """

  updates: int
  seeds: int
  most: int
  speed: Speed
  variants: int = 1

  def hours(self, seeds_per_job: int) -> list[float]:
    """Hours of each job, when a job has at most so many seeds.

    Args:
      seeds_per_job: limit, beside the seeds that fit a device.
    """
    count = -(-self.seeds // min(seeds_per_job, self.most))
    size, larger = divmod(self.seeds, count)
    return [
      self.updates * self.speed.seconds(rows * self.variants) / 3600
      for rows in (size + (index < larger) for index in range(count))
    ]


@dataclasses.dataclass(frozen=True)
class Division:
  """Cells divided into jobs for a number of devices.

  Attributes:
    devices: how many there are.
    busy: devices that have a job.
    seeds_per_job: seeds of a job at most.
    hours: until the last job ends.
    device_hours: sum over the jobs.
  """

  devices: int
  busy: int
  seeds_per_job: int
  hours: float
  device_hours: float


def divide(cells: Sequence[Cell], devices: int) -> Division:
  """The division of all cells whose last job ends first.

  A device runs one job at a time. The longest jobs start first, each on the
  device that is free first. Of several divisions with the same end the one with
  the largest jobs is taken, because it uses the fewest device-hours.

  Args:
    cells: what is to be trained.
    devices: how many there are.
  """
  best: Division | None = None
  for size in range(max(cell.seeds for cell in cells), 0, -1):
    times = sorted(
      (h for cell in cells for h in cell.hours(size)), reverse=True
    )
    ends = [0.0] * devices
    for time in times:
      heapq.heapreplace(ends, ends[0] + time)
    busy = min(devices, len(times))
    found = Division(devices, busy, size, max(ends), sum(times))
    if best is None or found.hours < best.hours * (1 - 1e-9):
      best = found
  assert best
  return best
