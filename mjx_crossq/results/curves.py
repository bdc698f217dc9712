"""Learning curves of several runs on one grid of env steps.

Runs are grouped by label (preset and UTD) and task. The runs of a group may
have been evaluated at different env steps. They are put on one grid: that of
the run with the fewest points, within the range that every run covers. The
other runs are interpolated linearly between their points. Nothing is
extrapolated, so a group ends where its shortest run ends, and every point is
a statistic of all runs.
"""

import dataclasses
import fnmatch
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq import config as config_lib
from mjx_crossq.config import SCHEDULE_FIELDS, Config, ConfigError
from mjx_crossq.paths import local
from mjx_crossq.results.axes import ENV_STEPS, Axis, Points
from mjx_crossq.vary import FOLDER

Trace = Mapping[int, float]
"""A value at each env step, of one run."""

_PHYSICS = ('dm_control', 'mjx', 'warp')

# Fields in which runs of the same experiment may differ.
_NOT_IN_LABEL = ('task', 'preset', 'utd', 'physics', 'seed', 'num_seeds')


@dataclasses.dataclass(frozen=True)
class Curves:
  """Curves of the runs of one label in one task.

  Attributes:
    steps: `(points,)` ascending env steps, or what else the x axis has.
    values: `(runs, points)`, in the unit of the quantity.
  """

  steps: np.ndarray
  values: np.ndarray

  def at(self, steps: np.ndarray) -> 'Curves':
    """The curves at other env steps, linear between the points.

    Args:
      steps: `(points,)` ascending, in the range of the curves.
    """
    values = [np.interp(steps, self.steps, v) for v in self.values]
    return Curves(np.asarray(steps, float), np.array(values))

  def until(self, step: float) -> 'Curves':
    """The curves' part up to an env step, which becomes the last point."""
    if step >= self.steps[-1]:
      return self
    return self.at(np.append(self.steps[self.steps < step], step))


LabelledCurves = Mapping[str, Mapping[str, Curves]]
"""Curves by label and task."""


def align(traces: Sequence[Points]) -> Curves:
  """Puts runs on one grid, as the module says.

  Args:
    traces: one a run, with one or more points each.

  Returns:
    The curves.

  Raises:
    ValueError: the runs have no env step in common.
  """
  runs = [Curves(*_columns(trace)) for trace in traces]
  steps = common_steps(runs)
  return Curves(steps, np.concatenate([run.at(steps).values for run in runs]))


def common_steps(curves: Iterable[Curves]) -> np.ndarray:
  """The grid on which all curves can be compared.

  Args:
    curves: of different runs, tasks or labels.

  Returns:
    Env steps `(points,)`: within the range that all curves cover, the points of
    the curves that have the fewest there, and the end of the range.

  Raises:
    ValueError: they have no env step in common.
  """
  curves = list(curves)
  start = max(c.steps[0] for c in curves)
  end = min(c.steps[-1] for c in curves)
  if start > end:
    raise ValueError(f'one begins at {start:.6g}, after {end:.6g}')
  inside = [c.steps[(c.steps >= start) & (c.steps <= end)] for c in curves]
  return np.union1d(min(inside, key=len), [end])


@dataclasses.dataclass(frozen=True)
class Run:
  """A run that `launch.train` wrote to a folder.

  Attributes:
    workdir: the folder.
    config: its configuration.
    versions: of Python and packages, and the commit, as the run wrote them.
  """

  workdir: Path
  config: Config
  versions: Mapping[str, Any]

  @classmethod
  def read(cls, workdir: str | Path) -> 'Run':
    """Reads the configuration of a run.

    Raises:
      ConfigError: the folder holds no run with an evaluation.
    """
    workdir = Path(local(workdir))
    if (workdir / FOLDER).is_dir():
      raise ConfigError(
        f'{workdir} has variants, which are runs; give {workdir / FOLDER}/*'
      )
    for name in ('config.json', 'eval.csv'):
      if not (workdir / name).is_file():
        raise ConfigError(
          f'{workdir} has no {name}; name the folder that launch.train wrote'
        )
    try:
      config, versions = config_lib.load(workdir / 'config.json')
    except (ValueError, KeyError, TypeError) as error:
      raise ConfigError(
        f'{workdir / "config.json"} cannot be read: {error}'
      ) from None
    return cls(workdir, config, versions)

  def returns(self) -> dict[int, Trace]:
    """Mean evaluation return by env step, for each seed.

    The returns in stock dm_control if the run has them, otherwise those in its
    own physics.

    Raises:
      ConfigError: there is no evaluation yet.
    """
    found = self._scored()
    for physics in ('dm_control', self.config.physics):
      if physics not in found:
        continue
      traces: dict[int, Trace] = {
        seed: {
          step: float(x.mean())
          for step, x in steps.items()
          if np.isfinite(x).all()
        }
        for seed, steps in found[physics].items()
      }
      if all(traces.values()):
        return traces
      raise ConfigError(
        f'{self.workdir / "eval.csv"} has a seed without any finite return; '
        'leave the run out'
      )
    raise ConfigError(
      f'{self.workdir / "eval.csv"} has no evaluation yet; leave the run out '
      'or let it train until its first one'
    )

  def broken(self) -> int:
    """How many evaluations of a seed `returns` leaves out: not all finite."""
    return sum(
      not np.isfinite(x).all()
      for seeds in self._scored().values()
      for steps in seeds.values()
      for x in steps.values()
    )

  def _scored(self) -> dict[str, dict[int, dict[int, np.ndarray]]]:
    path = self.workdir / 'eval.csv'
    try:
      return read_returns(path)
    except OSError as error:
      raise ConfigError(f'{path} cannot be read: {error.strerror}') from None

  def metrics(
    self, patterns: Sequence[str]
  ) -> Mapping[str, Mapping[int, Trace]]:
    """Finite values of logged series by env step, for each series and seed.

    Args:
      patterns: of names, such as `diag/*`.
    """
    found: dict = defaultdict(lambda: defaultdict(dict))
    path = self.workdir / 'metrics.jsonl'
    lines = ''
    if path.is_file():
      lines = path.read_text(encoding='utf-8', errors='replace')
    for line in lines.splitlines():
      try:
        record = json.loads(line)
        seed, step = _count(record['seed']), _count(record['env_step'])
        for name, value in record.items():
          numeric = isinstance(value, int | float) and math.isfinite(value)
          if numeric and any(fnmatch.fnmatchcase(name, p) for p in patterns):
            found[name][seed][step] = float(value)
      except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        continue  # a line that a killed process wrote in part
    return found


def _count(value: Any) -> int:
  """A whole number that is not negative, such as a seed."""
  if not isinstance(value, int) or isinstance(value, bool) or value < 0:
    raise ValueError(f'{value!r} is no count')
  return value


def read_returns(path: Path) -> dict[str, dict[int, dict[int, np.ndarray]]]:
  """Reads an `eval.csv`.

  Lines that a killed process wrote in part, and others that are no record, are
  left out; returns that are not finite are not.

  Returns:
    Returns of the episodes by physics, seed and env step.
  """
  found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
  text = path.read_text(encoding='utf-8', errors='replace')
  for line in text.splitlines(keepends=True):
    try:
      seed, step, physics, episode, value = line.split(',')
      seed, step, _ = (_count(int(x)) for x in (seed, step, episode))
      returned = float(value)
    except ValueError:
      continue
    # A line without its end may lack digits.
    if physics in _PHYSICS and line[-1] in '\r\n':
      found[physics][seed][step].append(returned)
  return {
    physics: {
      seed: {step: np.array(values) for step, values in steps.items()}
      for seed, steps in seeds.items()
    }
    for physics, seeds in found.items()
  }


def labels(runs: Sequence[Run]) -> list[str]:
  """A label for each run: preset and UTD.

  Fields in which runs of the same preset and UTD differ are added, so that
  only runs of one experiment have the same label.

  Args:
    runs: the runs to distinguish.
  """
  names = [f'{r.config.preset}, UTD {r.config.utd}' for r in runs]
  alike = defaultdict(list)
  for name, run in zip(names, runs, strict=True):
    alike[name].append(run.config.to_dict())
  result = []
  for name, run in zip(names, runs, strict=True):
    result.append(name)
    for field, value in run.config.to_dict().items():
      if field in _NOT_IN_LABEL or field in SCHEDULE_FIELDS:
        continue
      if any(other[field] != value for other in alike[name]):
        result[-1] += f', {field}={value}'
  return result


def evaluations(
  runs: Sequence[Run], axis: Axis = ENV_STEPS
) -> dict[str, dict[str, Curves]]:
  """Evaluation returns by label and task.

  Args:
    runs: the runs; each seed of a label and task may occur once.
    axis: what they are given over.

  Raises:
    ConfigError: a seed occurs twice, a run has no evaluation or no record of
      the axis, or the runs of a group have no part of the axis in common.
  """
  return _grouped(runs, [run.returns() for run in runs], axis)


def diagnostics(
  runs: Sequence[Run], patterns: Sequence[str], axis: Axis = ENV_STEPS
) -> dict[str, dict[str, dict[str, Curves]]]:
  """Logged series by name, label and task.

  Values that were not finite, which are null in the files, are left out.

  Args:
    runs: as `evaluations` takes them.
    patterns: of the series' names, such as `diag/*`.
    axis: what they are given over.
  """
  found = [run.metrics(patterns) for run in runs]
  names = list(dict.fromkeys(name for series in found for name in series))
  return {
    name: _grouped(runs, [series.get(name, {}) for series in found], axis)
    for name in names
  }


def _over(
  axis: Axis, run: Run, seeds: Mapping[int, Trace]
) -> Mapping[int, Points]:
  """The traces of a run's seeds over an axis."""
  if not axis.series or not seeds:
    return seeds
  recorded = run.metrics([axis.series]).get(axis.series, {})
  where = run.workdir / 'metrics.jsonl'
  return {
    seed: axis.place(trace, recorded.get(seed, {}), f'{where}, seed {seed}')
    for seed, trace in seeds.items()
  }


def _grouped(
  runs: Sequence[Run], traces: Sequence[Mapping[int, Trace]], axis: Axis
) -> dict[str, dict[str, Curves]]:
  """The traces of all runs, which are given by seed, by label and task."""
  groups: dict = defaultdict(lambda: defaultdict(dict))
  for run, label, seeds in zip(runs, labels(runs), traces, strict=True):
    group = groups[label][run.config.task] if seeds else {}
    for seed, trace in _over(axis, run, seeds).items():
      if seed in group:
        raise ConfigError(
          f'seed {seed} of {run.config.task}, {label}, is in {group[seed][0]} '
          f'and in {run.workdir}; give one of them'
        )
      group[seed] = (run.workdir, trace)
  result: dict = defaultdict(dict)
  for label, tasks in groups.items():
    for task, group in tasks.items():
      try:
        result[label][task] = align([trace for _, trace in group.values()])
      except ValueError as error:
        raise ConfigError(
          f'the runs of {task}, {label}, have no {axis.label} in common: '
          f'{error}'
        ) from None
  return dict(result)


def _columns(trace: Points) -> tuple[np.ndarray, np.ndarray]:
  steps, values = zip(*sorted(trace.items()), strict=True)
  return np.array(steps, float), np.array([values], float)
