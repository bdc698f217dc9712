"""A sweep as data: a grid of settings, its cells, and their jobs.

A cell is a `Config`; its seeds are one program. A cell whose seeds do not fit
a device together is divided into blocks of seeds, each a job of its own.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mjx_crossq import config as config_lib
from mjx_crossq.atomic import replacing
from mjx_crossq.config import FIELDS, Config, ConfigError, one_of
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import jobs

Axes = Mapping[str, Sequence[Any]]
"""Values by field, in the order in which they vary; the last one fastest."""

SETTINGS = ('workdir', 'backend', 'options')
"""What a file may say beside the axes."""

_GROUPS = ('paper', 'benchmarking', 'all')
_MOST_CELLS = 10_000
# A device needs room beside the state: what a chunk computes with.
_SHARE_OF_MEMORY = 0.9
_PLAN = 'sweep.json'


def parse(text: str) -> dict[str, list[Any]]:
  """Axes from a line such as `task=walker-run,fish-swim utd=1,10`.

  Args:
    text: `field=value,value` between spaces; the value of a field that is a
      list itself, such as `reset_at`, is one value.

  Raises:
    ConfigError: it is not written so.
  """
  axes: dict[str, list[Any]] = {}
  for part in text.split():
    name, equals, values = part.partition('=')
    if not equals:
      raise ConfigError(f'--grid: {part!r} is to be written field=value,value')
    if name in axes:
      raise ConfigError(f'--grid: {name} is there twice; write {name}=a,b')
    lists = name in FIELDS and isinstance(FIELDS[name].default, tuple)
    axes[name] = [values] if lists else values.split(',')
  return axes


def read(path: str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
  """Axes and settings from a YAML file.

  Args:
    path: of the file: a field of `Config` a key, with a value or a list of
      them, and perhaps `workdir`, `backend` and `options` of the backend.

  Raises:
    ConfigError: the file cannot be read, or is not such a file.
  """
  import yaml

  try:
    found = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError, yaml.YAMLError) as error:
    raise ConfigError(f'--file={path} cannot be read: {error}') from None
  if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
    raise ConfigError(
      f'--file={path} holds no settings; write lines such as "utd: [1, 10]"'
    )
  settings = {name: found.pop(name) for name in SETTINGS if name in found}
  for name, kind in (('workdir', str), ('backend', str), ('options', dict)):
    if not isinstance(settings.get(name, kind()), kind):
      raise ConfigError(f'--file={path}: {name} is not a {kind.__name__}')
  return {
    name: value if isinstance(value, list) else [value]
    for name, value in found.items()
  }, settings


def cells(axes: Axes) -> list[Config]:
  """The product of the axes.

  Args:
    axes: fields of `Config` and their values, as text or JSON values; among
      the tasks may be groups (`paper`, `benchmarking`, `all`).

  Raises:
    ConfigError: a field or a value is wrong, or two cells are the same.
  """
  axes = {name: list(values) for name, values in axes.items()}
  for name, values in axes.items():
    one_of('field', name, FIELDS)
    if not values or (
      '' in values and not isinstance(FIELDS[name].default, tuple)
    ):
      raise ConfigError(f'{name} has no value or an empty one')
  if 'task' in axes:
    axes['task'] = [
      task
      for name in axes['task']
      for task in (cli.expand_tasks([name]) if name in _GROUPS else [name])
    ]
  count = 1
  for values in axes.values():
    count *= len(values)
  if count > _MOST_CELLS:
    raise ConfigError(f'the grid has {count:,} cells; {_MOST_CELLS:,} at most')
  found: dict[Config, None] = {}
  for values in itertools.product(*axes.values()):
    settings = dict(zip(axes, values, strict=True))
    preset = config_lib.from_preset(str(settings.get('preset', 'crossq_wn')))
    config = Config.from_dict({**preset.to_dict(), **settings})
    if config in found:
      raise ConfigError(
        f'the grid has {jobs.title(config)} twice; leave out one'
      )
    found[config] = None
  return list(found)


def blocks(config: Config, count: int) -> list[Config]:
  """A run's seeds divided over several, whose sizes differ by one at most.

  Args:
    config: the run.
    count: into how many; from 1 to its number of seeds.
  """
  size, rest = divmod(config.num_seeds, count)
  sizes = [size + (index < rest) for index in range(count)]
  starts = itertools.accumulate([config.seed, *sizes[:-1]])
  return [
    config.replace(seed=start, num_seeds=size)
    for start, size in zip(starts, sizes, strict=True)
  ]


def seeds_that_fit(config: Config, bytes_of_all: int, memory: int) -> int:
  """How many seeds of a cell a device holds.

  Args:
    config: the cell.
    bytes_of_all: of its state, with all seeds.
    memory: of a device, in bytes.

  Raises:
    ConfigError: not even one seed fits.
  """
  one = bytes_of_all / config.num_seeds
  fit = int(_SHARE_OF_MEMORY * memory / one)
  if not fit:
    raise ConfigError(
      f'one seed of {jobs.title(config)} needs {one / 2**30:.1f} GiB and the '
      f'device has {memory / 2**30:.1f} GiB; lower replay_capacity'
    )
  return fit


def blocks_that_fit(
  config: Config, bytes_of_all: int, memory: int, devices: int = 1
) -> int:
  """Into how many blocks a cell is divided so that each fits.

  Args:
    config: the cell.
    bytes_of_all: of its state, with all seeds.
    memory: of a device, in bytes.
    devices: over which a block is spread.

  Raises:
    ConfigError: not even one seed fits.
  """
  fit = devices * seeds_that_fit(config, bytes_of_all, memory)
  return -(-config.num_seeds // fit)


class Plan:
  """Into how many jobs each cell of a sweep is divided, kept in its folder.

  It is decided once, because the memory that is free may change and a job goes
  on in the folder of its block of seeds.
  """

  def __init__(self, workdir: Path):
    """Reads what an earlier start decided.

    Args:
      workdir: folder of the sweep.

    Raises:
      ConfigError: the record is damaged.
    """
    self._workdir = workdir
    self._path = workdir / _PLAN
    self._counts: dict[str, int] = {}
    if self._path.exists():
      try:
        found = json.loads(self._path.read_text(encoding='utf-8'))
        self._counts = {name: int(n) for name, n in found['jobs'].items()}
      except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
      ) as error:
        raise ConfigError(
          f'{self._path} is damaged ({error!r}); put back a copy, or choose '
          'another --workdir'
        ) from None

  def _name(self, cell: Config) -> str:
    return jobs.full_folder(self._workdir, cell).name

  def undecided(self, cells: Iterable[Config]) -> list[Config]:
    """The cells that no earlier start has divided."""
    return [cell for cell in cells if self._name(cell) not in self._counts]

  def decide(self, counts: Mapping[Config, int]) -> None:
    """Divides cells that were not; nothing is written yet."""
    for cell, count in counts.items():
      self._counts.setdefault(self._name(cell), count)

  def write(self) -> None:
    """Keeps what was decided."""
    text = json.dumps({'jobs': self._counts}, indent=2) + '\n'
    with replacing(self._path) as draft:
      draft.write_text(text, encoding='utf-8')

  def jobs(
    self, cells: Iterable[Config], extra: Sequence[str] = ()
  ) -> list[jobs.Job]:
    """The jobs of the cells; one each for those that are not divided.

    Args:
      cells: of the grid.
      extra: flags of `launch.train` for all of them.
    """
    found = []
    for cell in cells:
      count = min(self._counts.get(self._name(cell), 1), cell.num_seeds)
      for block in blocks(cell, count):
        where = jobs.full_folder(self._workdir, block)
        found.append(jobs.Job(block, where, tuple(extra)))
    return found
