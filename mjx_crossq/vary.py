"""Settings that differ from row to row of one program.

A *row* is one agent with its environments and replay: a seed of a variant. A
*variant* is the run's configuration with one value of each varied setting. The
values are data of the program: a scalar for each row in `TrainState.hyper`,
which becomes the `learner.hyper.Hyper` of an update. Every variant trains the
same seeds with the same keys, so that each row equals that of a run with these
values alone.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mjx_crossq.config import Config

FOLDER = 'variants'
"""The folder, in that of the run, which holds the folders of the variants."""


@dataclasses.dataclass(frozen=True)
class Variant:
  """One value of each varied setting.

  Attributes:
    name: such as `actor_lr=0.0001+gamma=0.97`; '' where nothing varies. It is
      the name of a folder, without the characters at which shells or lists of
      flags are split.
    values: by the fields' names.
    config: of the run with these values alone.
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
  """Variant and absolute seed of each row, variant by variant."""
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
  """The folders of the variants; that of the run where nothing varies."""
  if not config.vary:
    return [workdir]
  return [workdir / FOLDER / variant.name for variant in variants(config)]


def parent(workdir: Path) -> Path | None:
  """The folder of the run that a variant's folder belongs to, if it is one."""
  above = workdir.resolve().parent
  if above.name == FOLDER and (above.parent / 'config.json').is_file():
    return above.parent
  return None
