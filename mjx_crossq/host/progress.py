"""The lines, the table and the bar by which a person follows a run."""

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from mjx_crossq.config import Config


class Progress:
  """Speeds and the time left, measured from log point to log point."""

  def __init__(self, config: Config, iteration: int, elapsed: float = 0.0):
    """Starts the clock.

    Args:
      config: says how many env steps and updates an iteration has.
      iteration: the iteration at which this process starts.
      elapsed: seconds that earlier processes of the run took until then.
    """
    self._config = config
    self._before = elapsed
    self._start = time.monotonic()
    self._iteration = iteration
    # Since when the run has learned; the warm-up is too fast to tell its speed.
    self._learns_from = (iteration, self._start)

  def elapsed(self) -> float:
    """Seconds that the run has taken, in all of its processes."""
    return self._before + time.monotonic() - self._start

  def speeds(self, iteration: int, device_seconds: float) -> dict[str, float]:
    """Speeds of one seed since the last call.

    Args:
      iteration: the current one.
      device_seconds: time spent in the training program, without evaluation.
    """
    c = self._config
    steps = (iteration - self._iteration) * c.steps_per_iteration
    updates = c.updates_at(iteration) - c.updates_at(self._iteration)
    self._iteration = iteration
    if not c.updates_at(iteration):
      self._learns_from = (iteration, time.monotonic())
    return {
      'time/env_steps_per_second': steps / device_seconds,
      'time/updates_per_second': updates / device_seconds,
      'time/elapsed_seconds': self.elapsed(),
    }

  def line(
    self,
    iteration: int,
    speeds: Mapping[str, float],
    returns: np.ndarray,
    variants: Sequence[str],
  ) -> str:
    """One line: env steps, speeds, return per seed, time left.

    The time left is known once the run has learned for an interval.

    Args:
      iteration: the current one.
      speeds: as `speeds` gives them.
      returns: of each row's last training episodes, `(rows,)`.
      variants: names of the rows' variants, '' where nothing varies.
    """
    c = self._config
    step, total = (n * c.steps_per_iteration for n in (iteration, c.iterations))
    return (
      f'{step:>9,} / {total:,} env steps | '
      f'{speeds["time/env_steps_per_second"]:7,.0f} env steps/s | '
      f'{speeds["time/updates_per_second"]:6,.0f} updates/s | '
      f'return {_returns(returns, variants)} | {self._left(iteration)} left'
    )

  def _left(self, iteration: int) -> str:
    """Minutes and seconds until the end, evaluations included."""
    first, start = self._learns_from
    remaining = self._config.iterations - iteration
    if remaining and iteration == first:
      return '-:--'
    passed = time.monotonic() - start
    seconds = round(passed / max(iteration - first, 1) * remaining)
    return f'{seconds // 60}:{seconds % 60:02d}'


def evaluation_line(
  step: int, returns: Mapping[str, np.ndarray], variants: Sequence[str]
) -> str:
  """One line: the mean return of each seed.

  Args:
    step: env step of the policy.
    returns: `(seeds, episodes)` by physics.
    variants: names of the rows' variants.
  """
  cells = [
    f'{physics} {_returns(values.mean(axis=1), variants)}'
    for physics, values in returns.items()
  ]
  return f'{step:>9,} evaluation: return in {", ".join(cells)}'


def result_table(
  seeds: Sequence[int],
  returns: Mapping[str, np.ndarray],
  variants: Sequence[str] = (),
) -> str:
  """Mean and standard deviation of an evaluation, a line for each seed.

  Args:
    seeds: absolute seeds.
    returns: `(seeds, episodes)` by physics.
    variants: names of the rows' variants, written after the numbers.
  """
  names = list(returns)
  lines = ['  seed' + ''.join(f'{name:>24}' for name in names)]
  for index, seed in enumerate(seeds):
    cells = (
      f'{returns[name][index].mean():.1f} +- {returns[name][index].std():.1f}'
      for name in names
    )
    line = f'{seed:6}' + ''.join(f'{cell:>24}' for cell in cells)
    variant = variants[index] if variants else ''
    lines.append(f'{line}   {variant}' if variant else line)
  return '\n'.join(lines)


def _returns(returns: np.ndarray, variants: Sequence[str]) -> str:
  """Rounded returns by variant; a dash for a row without an episode yet."""
  groups: dict[str, list[str]] = {}
  for value, name in zip(returns, variants, strict=True):
    cell = '-' if math.isnan(value) else f'{value:.0f}'
    groups.setdefault(name, [f'{name}:'] if name else []).append(cell)
  return ', '.join(' '.join(cells) for cells in groups.values())


class Bar:
  """A progress bar on stderr if that is a terminal; otherwise it is silent."""

  def __init__(self, env_steps: int, stream: Any = None):
    """The bar appears at the first call.

    Args:
      env_steps: budget of the run.
      stream: a text stream; None for stderr.
    """
    self._total = env_steps
    self._stream = stream
    self._bar: tqdm | None = None

  def __call__(self, step: int) -> None:
    """Moves the bar to an env step."""
    if self._bar is None:
      self._bar = tqdm(
        total=self._total,
        initial=step,
        unit='env step',
        unit_scale=True,
        dynamic_ncols=True,
        leave=False,
        file=self._stream,
        disable=None,  # tqdm's way to ask for no bar outside of a terminal
      )
    self._bar.update(step - self._bar.n)

  def close(self) -> None:
    """Removes the bar."""
    if self._bar is not None:
      self._bar.close()
