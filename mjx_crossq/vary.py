"""Settings that differ from row to row of one program.

A *row* is one agent with its environments and replay: a seed of a variant. A
*variant* is the run's configuration with one value of each varied setting. The
values are data of the program, a scalar a row in `TrainState.hyper`; what reads
a `Config` within an update reads a `Varied` one in its place. Every variant
trains the same seeds with the same keys, so each row is the row of a run of its
own with these values.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mjx_crossq.config import Config

FOLDER = 'variants'
"""Where in a run's folder its variants have theirs."""


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
  config: Config


def variants(config: Config) -> list[Variant]:
  """The variants in the order of their rows; one where nothing varies."""
  if not config.vary:
    return [Variant('', {}, config)]
  base = config.replace(vary=(), pbt_every=0)
  return [
    Variant(name, values, base.replace(**values))
    for name, values in config.combinations
  ]


def rows(config: Config) -> list[tuple[Variant, int]]:
  """Variant and absolute seed of each row: one variant after the other."""
  return [
    (variant, config.seed + index)
    for variant in variants(config)
    for index in range(config.num_seeds)
  ]


def hyper(config: Config) -> dict[str, np.ndarray]:
  """The first values of the varied fields, `(rows,)` each, float32."""
  return {
    name: np.array([v.values[name] for v, _ in rows(config)], np.float32)
    for name in config.varied
  }


def folders(workdir: Path, config: Config) -> list[Path]:
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
