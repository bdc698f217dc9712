"""The updates of an iteration, and counts that a run's counters can hold.

A counter on the device is an int32, and what is summed from log point to log
point a float32, in which a count is exact up to 2^24.
"""

import functools
import math
from fractions import Fraction
from typing import TYPE_CHECKING

from mjx_crossq.errors import ConfigError

if TYPE_CHECKING:
  from mjx_crossq.config import Config

LARGEST = 2**31 - 1
"""The largest integer that a counter on the device holds."""

_SUMMED = 2**24
_TOLERANCE = Fraction(1, 10**12)  # of a UTD such as 1/3, which is rounded


@functools.lru_cache
def updates(num_envs: int, utd: float) -> tuple[int, int]:
  """The updates of an iteration, and which iterations have them.

  Args:
    num_envs: environments of a seed.
    utd: updates per decision of one environment.

  Returns:
    `num_envs x utd` and 1 where that is whole; else 1 and the number of
    iterations to each that updates.

  Raises:
    ConfigError: neither `num_envs x utd` nor its inverse is whole; the message
      has the two nearest values of `utd` that can be used.
  """
  ratio = num_envs * Fraction(str(utd))
  several = ratio > 1
  count = ratio if several else 1 / ratio
  whole = round(count)
  if abs(count - whole) <= count * _TOLERANCE:
    return (whole, 1) if several else (1, whole)
  near = [Fraction(n) for n in (math.floor(count), math.ceil(count))]
  below, above = sorted((n if several else 1 / n) / num_envs for n in near)
  raise ConfigError(
    f'utd={utd} is {float(ratio):g} updates an iteration of num_envs='
    f'{num_envs}; it must be a whole number, or one update every so many '
    f'iterations: set utd={_text(below)} or utd={_text(above)}'
  )


def _text(number: Fraction) -> str:
  whole = number.denominator == 1
  return str(number.numerator if whole else float(number))


def check(c: 'Config') -> None:
  """Refuses a run whose counters would overflow.

  Args:
    c: the configuration, each field of which is within its bounds.

  Raises:
    ConfigError: with the setting to change.
  """
  each = c.iterations * c.action_repeat
  if each > LARGEST:
    raise ConfigError(
      f'env_steps={c.env_steps} are {each:,} of each environment, and at most '
      f'{LARGEST:,} can be counted; lower it, or raise num_envs'
    )
  steps, size = c.steps_per_iteration, c.updates_per_iteration
  total = c.updates_at(c.iterations)
  if c.reset_every and total > LARGEST:
    raise ConfigError(
      f'env_steps={c.env_steps} has {total:,} updates, of which reset_every '
      f'can count {LARGEST:,}; lower it, or use reset_at'
    )
  decay = c.updates_at(-(-c.lr_decay_steps // steps))
  if decay > LARGEST:
    raise ConfigError(
      f'lr_decay_steps={c.lr_decay_steps} has {decay:,} updates, and at most '
      f'{LARGEST:,} can be counted; lower it, or set 0 for a constant rate'
    )
  # The host stops, and logs, at multiples of each of these.
  stops = c.eval_every, c.checkpoint_every, c.diagnostics_every, c.pbt_every
  between = -(-min(c.env_steps, c.log_every, *filter(None, stops)) // steps)
  if -(-between // c.update_every) * size > _SUMMED:
    raise ConfigError(
      f'log_every={c.log_every} has more than {_SUMMED:,} updates between log '
      f'points; set it to {_SUMMED // size * c.update_every * steps} or less'
    )
