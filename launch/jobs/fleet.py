"""A model of speed, and what it says of many devices (docs/scaling.md)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mjx_crossq.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Speed:
  """What a vmapped update costs on one device.

  Attributes:
    fixed: seconds of an update, however few its seeds are.
    per_seed: seconds that each seed adds.
    measured: numbers of seeds from which they were read.
    error: greatest relative error of the model at those.
  """

  fixed: float
  per_seed: float
  measured: tuple[int, ...]
  error: float

  def seconds(self, seeds: float) -> float:
    """Of an update of so many seeds."""
    return self.fixed + self.per_seed * seeds

  @property
  def half(self) -> float:
    """Seeds with which a device does half of what it can."""
    return self.fixed / self.per_seed


def fit(rows: Sequence[Mapping[str, Any]]) -> Speed:
  """Reads the model off measurements at several numbers of seeds.

  Least squares of the relative error, with both terms kept from falling below
  0; one number of seeds alone gives a cost in proportion to the seeds.

  Args:
    rows: of `launch.benchmark`, alike but for the seeds.

  Raises:
    ConfigError: there are none.
  """
  if not rows:
    raise ConfigError(
      '--benchmark has no row of this preset and width; make one with '
      'python -m launch.benchmark --sweep=seeds --json=FILE'
    )
  n = np.array([row['num_seeds'] for row in rows], float)
  t = np.array([1 / row['updates_per_second'] for row in rows])
  columns = np.stack([np.ones_like(n), n], 1) / t[:, None]
  a, b = 0.0, float(np.sum(n / t) / np.sum((n / t) ** 2))
  if len(set(n)) > 1:
    found = np.linalg.lstsq(columns, np.ones_like(t), rcond=None)[0]
    if found.min() >= 0:
      a, b = map(float, found)
    elif found[1] < 0:  # the seeds are free as far as was measured
      a, b = float(np.sum(1 / t) / np.sum(1 / t**2)), 0.0
  speed = Speed(a, b, tuple(sorted({int(x) for x in n})), 0.0)
  error = float(np.max(np.abs((a + b * n) / t - 1)))
  return dataclasses.replace(speed, error=error)


@dataclasses.dataclass(frozen=True)
class Plan:
  """A workload on so many devices.

  Attributes:
    devices: that there are.
    busy: of them those that have work at the busiest time.
    block: seeds of a program, at most.
    hours: until all is done.
    device_hours: of the busy devices together.
  """

  devices: int
  busy: int
  block: int
  hours: float
  device_hours: float


def plan(
  speed: Speed, updates: int, tasks: int, seeds: int, most: int, devices: int
) -> Plan:
  """The quickest even division of tasks x seeds over devices.

  A program has seeds of one task, and a device one program at a time, so a
  task is divided into blocks; of those with the same end the fewest blocks win,
  which cost least.

  Args:
    speed: of a device.
    updates: of each seed.
    tasks: how many.
    seeds: of each task.
    most: seeds that fit a device, from 1.
    devices: how many.
  """
  best = None
  for blocks in range(-(-seeds // most), seeds + 1):
    block = -(-seeds // blocks)
    jobs = tasks * blocks
    one = updates * speed.seconds(block) / 3600
    hours = math.ceil(jobs / devices) * one
    found = Plan(devices, min(jobs, devices), block, hours, jobs * one)
    if best is None or found.hours < best.hours * (1 - 1e-9):
      best = found
  assert best
  return best
