"""Settings that differ from row to row of one program.

A *row* is one agent with its environments and replay: a seed of a variant. A
*variant* is the run's configuration with one value of each varied setting. The
values are data of the program, a scalar a row in `TrainState.hyper`; what reads
a `Config` within an update reads a `Varied` one in its place. Every variant
trains the same seeds with the same keys, so each row is the row of a run of its
own with these values.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mjx_crossq import parsing
from mjx_crossq.parsing import ConfigError

if TYPE_CHECKING:
  from mjx_crossq.config import Config

FIELDS = (
  'critic_lr',
  'actor_lr',
  'alpha_lr',
  'gamma',
  'tau',
  'target_entropy',
  'weight_decay',
  'init_alpha',
)
"""What may vary: numbers that an update (or a new agent) takes as they are."""

FOLDER = 'variants'
"""Where in a run's folder its variants have theirs."""

MAX_ROWS = 10_000
MAX_VARIANTS = 200  # each has files that stay open
MAX_NAME = 200


@dataclasses.dataclass(frozen=True)
class Variant:
  """One value of each varied setting.

  Attributes:
    name: such as `actor_lr=0.0001+gamma=0.97`; '' where nothing varies. A
      folder's name, and free of what shells and lists of flags split at.
    values: by the fields' names.
    config: of the run of its own that it equals.
  """

  name: str
  values: Mapping[str, float]
  config: 'Config'


class Varied:
  """A configuration with arrays in the place of some of its fields."""

  def __init__(self, config: 'Config', values: Mapping[str, Any]):
    """Takes the values, `()` each, in place of the configuration's."""
    self._config = config
    self._values = values

  def __getattr__(self, name: str) -> Any:
    """A value of its own, or the configuration's."""
    if name.startswith('__'):
      raise AttributeError(name)
    values = self._values
    return values[name] if name in values else getattr(self._config, name)


def is_on(value: Any) -> bool:
  """Whether a setting takes part in an update: a varied one always does.

  Args:
    value: a number, for which 0 is "no", or an array.
  """
  return not isinstance(value, int | float) or bool(value)


def parse(texts: Sequence[str]) -> dict[str, tuple[float, ...]]:
  """What `--vary` says: values by field.

  Args:
    texts: such as `['actor_lr=1e-4,3e-4', 'gamma=0.97,0.99']`.

  Raises:
    ConfigError: a field may not vary or is named twice, or what it is to be is
      no list of different numbers.
  """
  found: dict[str, tuple[float, ...]] = {}
  for text in texts:
    name, equals, numbers = text.partition('=')
    name = name.strip()
    if not equals:
      raise ConfigError(f'vary={text!r}: write it as field=value,value,...')
    if name not in FIELDS:
      raise ConfigError(f'{name!r} cannot vary; these can: {", ".join(FIELDS)}')
    if name in found:
      raise ConfigError(f'{name} varies twice; give all its values at once')
    parts = [part for part in numbers.split(',') if part.strip()]
    values = tuple(parsing.typed(name, part, float) for part in parts)
    if not values:
      raise ConfigError(f'vary={text!r} has no value')
    if len(set(values)) < len(values):
      raise ConfigError(f'vary={text!r} has a value twice')
    found[name] = values
  return found


def canonical(texts: Sequence[str]) -> tuple[str, ...]:
  """The same written one way, so that 1e-4 and 0.0001 are the same run."""
  return tuple(
    f'{name}={",".join(map(repr, values))}'
    for name, values in parse(texts).items()
  )


def check(config: 'Config') -> None:
  """Refuses variants that could not be runs of their own, and PBT without any.

  Raises:
    ConfigError: with the fix.
  """
  found = parse(config.vary)
  if 'tau' in found and not config.target_network:
    raise ConfigError(
      'tau cannot vary without a target network; set target_network=true'
    )
  count = math.prod(map(len, found.values()))
  if count > MAX_VARIANTS:
    raise ConfigError(
      f'vary makes {count:,} variants; at most {MAX_VARIANTS} are possible'
    )
  names = [variant.name for variant in variants(config)]
  if len(max(names, key=len)) > MAX_NAME:
    raise ConfigError(
      f'vary has too many digits for the name of a folder: {names[0]}'
    )
  rows = len(names) * config.num_seeds
  if rows > MAX_ROWS:
    raise ConfigError(
      f'vary and num_seeds={config.num_seeds} make {rows:,} rows; at most '
      f'{MAX_ROWS:,} are possible'
    )
  if not config.pbt_every:
    return
  if not found:
    raise ConfigError(
      f'pbt_every={config.pbt_every} needs --vary: the settings that it is to '
      'change, with their first values'
    )
  if rows < 4:
    raise ConfigError(
      f'pbt_every={config.pbt_every} needs 4 rows or more, and there are '
      f'{rows}; raise num_seeds or vary more values'
    )
  if 'init_alpha' in found:
    raise ConfigError(
      'init_alpha cannot vary with pbt_every: it says how an agent begins only'
    )


def variants(config: 'Config') -> list[Variant]:
  """The variants of a run in the order of its rows; one where nothing varies.

  Several fields give the cross product, the last one fastest.

  Raises:
    ConfigError: a value is refused as that of a run of its own would be.
  """
  if not config.vary:
    return [Variant('', {}, config)]
  found = parse(config.vary)
  base = config.replace(vary=(), pbt_every=0)
  result = []
  for numbers in itertools.product(*found.values()):
    values = dict(zip(found, numbers, strict=True))
    name = '+'.join(f'{field}={value!r}' for field, value in values.items())
    result.append(Variant(name, values, base.replace(**values)))
  return result


def rows(config: 'Config') -> list[tuple[Variant, int]]:
  """Variant and absolute seed of each row: one variant after the other."""
  return [
    (variant, config.seed + index)
    for variant in variants(config)
    for index in range(config.num_seeds)
  ]


def hyper(config: 'Config') -> dict[str, np.ndarray]:
  """The first values of the varied fields, `(rows,)` each, float32."""
  return {
    name: np.array([v.values[name] for v, _ in rows(config)], np.float32)
    for name in parse(config.vary)
  }


def folders(workdir: Path, config: 'Config') -> list[Path]:
  """Where the variants' files are; the run's folder where nothing varies."""
  if not config.vary:
    return [workdir]
  return [workdir / FOLDER / variant.name for variant in variants(config)]


def parent(workdir: Path) -> Path | None:
  """The folder of the run that a variant's folder belongs to, if it is one."""
  above = workdir.resolve().parent
  if above.name == FOLDER and (above.parent / 'config.json').is_file():
    return above.parent
  return None
