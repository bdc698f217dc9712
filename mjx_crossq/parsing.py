"""Text and JSON values as typed settings, refused by name where they fail."""

import contextlib
import difflib
import math
from collections.abc import Sequence
from typing import Any

from mjx_crossq.errors import ConfigError

Number = int | float
"""The type of a setting that is an int where it is whole, and else a float."""


def one_of(what: str, value: str, allowed: Any) -> None:
  """Refuses a name that is not known, and says which one may be meant.

  Args:
    what: what it names.
    value: the name.
    allowed: the known names.

  Raises:
    ConfigError: it is none of them.
  """
  if value in allowed:
    return
  near = difflib.get_close_matches(str(value), list(allowed), n=1, cutoff=0.4)
  hint = (
    f'did you mean {near[0]!r}?' if near else f'known: {", ".join(allowed)}'
  )
  raise ConfigError(f'unknown {what} {value!r}; {hint}')


def typed(name: str, value: Any, kind: Any) -> Any:
  """`value` (text, or a JSON value) as a bool, int, float, str or a list.

  Args:
    name: of the setting, for the message.
    value: what was given.
    kind: the type it must have; `tuple[int, ...]` is written `1,2,3`, and
      `tuple[str, ...]` `a;b`, as its strings may have commas.

  Raises:
    ConfigError: it is not of that type.
  """
  if kind == tuple[int, ...]:
    if isinstance(value, str):
      value = [part for part in value.split(',') if part.strip()]
    if not isinstance(value, list | tuple):
      raise ConfigError(f'{name}={value!r} is not a list of int')
    return tuple(_number(name, part, int) for part in value)
  if kind == tuple[str, ...]:
    if isinstance(value, str):
      value = [part.strip() for part in value.split(';') if part.strip()]
    if not isinstance(value, list | tuple) or any(
      not isinstance(part, str) for part in value
    ):
      raise ConfigError(f'{name}={value!r} is not a list of text')
    return tuple(value)
  if kind is str:
    if isinstance(value, str):
      return value
  elif kind is bool:
    if isinstance(value, bool):
      return value
    if str(value).lower() in ('true', '1', 'yes', 'on'):
      return True
    if str(value).lower() in ('false', '0', 'no', 'off'):
      return False
  else:
    return _number(name, value, kind)
  raise ConfigError(f'{name}={value!r} is not of type {kind.__name__}')


def to_text(value: Any) -> str:
  """A setting as text; `typed` makes the same value of it.

  Args:
    value: a bool, int, float, str, or a tuple of ints or of strings. A string
      in a tuple must hold no `;` and no white space at its ends.
  """
  if isinstance(value, tuple):
    separator = ';' if any(isinstance(part, str) for part in value) else ','
    return separator.join(map(to_text, value))
  return str(value)


def _number(name: str, value: Any, kind: type) -> Any:
  """`value` (text, or a JSON number) as an int, a float or a `Number`."""
  number = math.nan
  if not isinstance(value, bool):
    with contextlib.suppress(TypeError, ValueError, OverflowError):
      number = float(value)  # for integers too, so that 1e6 serves
  if kind in (int, Number) and number.is_integer():
    try:
      return int(value)
    except ValueError:  # such as 1e6
      return int(number)
  if kind in (float, Number) and math.isfinite(number):
    return number
  words = 'number' if kind == Number else kind.__name__
  raise ConfigError(f'{name}={value!r} is not of type {words}')


def number_lists(
  texts: Sequence[str], allowed: Sequence[str]
) -> dict[str, tuple[float, ...]]:
  """What `--vary` says: different numbers for each of some fields.

  Args:
    texts: such as `['actor_lr=1e-4,3e-4', 'gamma=0.97,0.99']`.
    allowed: the fields that may be named.

  Raises:
    ConfigError: a field may not vary or is named twice, or its values are not
      a list of different numbers.
  """
  found: dict[str, tuple[float, ...]] = {}
  for text in texts:
    name, equals, numbers = text.partition('=')
    name = name.strip()
    if not equals:
      raise ConfigError(f'vary={text!r}: write it as field=value,value,...')
    if name not in allowed:
      raise ConfigError(
        f'{name!r} cannot vary; these can: {", ".join(allowed)}'
      )
    if name in found:
      raise ConfigError(f'{name} varies twice; give all its values at once')
    parts = [part for part in numbers.split(',') if part.strip()]
    values = tuple(typed(name, part, float) for part in parts)
    if not values:
      raise ConfigError(f'vary={text!r} has no value')
    if len(set(values)) < len(values):
      raise ConfigError(f'vary={text!r} has a value twice')
    found[name] = values
  return found
