"""A sweep as data: a grid of settings, its cells and their jobs.

A cell is a `Config`. It is one job, which trains all of its seeds, or it is
divided into blocks of seeds, each a job of its own with a folder inside the
cell's folder.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mjx_crossq import config as config_lib
from mjx_crossq import paths
from mjx_crossq.atomic import replace_text
from mjx_crossq.config import FIELDS, Config, ConfigError, one_of
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import jobs

Axes = Mapping[str, Sequence[Any]]
"""Values by field. The last field varies fastest."""

SETTINGS = {
  'workdir': str,
  'backend': str,
  'options': dict,
  'seeds_per_job': int,
}
"""Keys of a sweep file other than the axes, and their types."""

_MOST_CELLS = 10_000
# The rest of a device's memory holds the temporaries of the training program.
_SHARE_OF_MEMORY = 0.9
_PLAN = 'sweep.json'


def parse(text: str) -> dict[str, list[Any]]:
  """Axes from a line such as `task=walker-run,fish-swim utd=1,10`.

  Args:
    text: `field=value,value` separated by spaces. For a field that is itself a
      list, such as `reset_at`, all of the text is one value.

  Raises:
    ConfigError: the text does not have this form.
  """
  axes: dict[str, list[Any]] = {}
  for part in text.split():
    name, equals, values = part.partition('=')
    if not equals:
      raise ConfigError(f'--grid: write {part!r} as field=value,value')
    if name in axes:
      raise ConfigError(f'--grid: {name} is given twice; write {name}=a,b')
    lists = name in FIELDS and isinstance(FIELDS[name].default, tuple)
    axes[name] = [values] if lists else values.split(',')
  return axes


def read(path: str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
  """Axes and settings from a YAML file.

  Args:
    path: of the file. Its keys are fields of `Config`, each with a value or a
      list of values, and optionally those of `SETTINGS`.

  Raises:
    ConfigError: the file cannot be read or does not have this form.
  """
  try:
    found = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
  except (OSError, ValueError, yaml.YAMLError) as error:
    raise ConfigError(f'--file={path} cannot be read: {error}') from None
  if not isinstance(found, dict) or not all(isinstance(k, str) for k in found):
    raise ConfigError(
      f'--file={path} holds no settings; write lines such as "utd: [1, 10]"'
    )
  settings = {name: found.pop(name) for name in SETTINGS if name in found}
  for name, value in settings.items():
    if not isinstance(value, SETTINGS[name]):
      kind = SETTINGS[name].__name__
      raise ConfigError(f'--file={path}: {name} is not of type {kind}')
  if 'workdir' in settings:
    settings['workdir'] = paths.local(settings['workdir'])
  return {
    name: value if isinstance(value, list) else [value]
    for name, value in found.items()
  }, settings


def cells(axes: Axes) -> list[Config]:
  """The product of the axes.

  Args:
    axes: fields of `Config` and their values, as text or JSON values. The tasks
      may include groups (`paper`, `benchmarking`, `all`).

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
      for task in (cli.expand_tasks([name]) if name in cli.GROUPS else [name])
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
  """A run with its seeds divided over several, whose sizes differ by at most 1.

  Args:
    config: the run.
    count: number of blocks, from 1 to the number of seeds.
  """
  size, larger = divmod(config.num_seeds, count)
  sizes = [size + (index < larger) for index in range(count)]
  starts = itertools.accumulate([config.seed, *sizes[:-1]])
  return [
    config.replace(seed=start, num_seeds=size)
    for start, size in zip(starts, sizes, strict=True)
  ]


def seeds_that_fit(config: Config, bytes_of_all: int, memory: int) -> int:
  """How many seeds of a cell fit a device.

  Args:
    config: the cell.
    bytes_of_all: size of its state with all seeds.
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


def blocks_needed(config: Config, most: int) -> int:
  """The number of blocks of a cell.

  Args:
    config: the cell.
    most: seeds that a block may have.

  Raises:
    ConfigError: the cell needs several blocks but cannot be divided.
  """
  count = -(-config.num_seeds // most)
  if count > 1 and config.pbt_every:
    raise ConfigError(
      f'{jobs.title(config)}: pbt_every compares all {config.num_seeds} seeds '
      f'in one program, so they cannot be divided into jobs of {most}; lower '
      'num_seeds, or raise --seeds_per_job or --memory_gib'
    )
  return count


class Plan:
  """The number of blocks of each cell, kept in the sweep's folder.

  It is decided once, because the free memory may be another at the next start
  and a job continues in the folder of its block of seeds.
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
          f'{self._path} is damaged ({error!r}); restore it from a copy, or '
          'choose another --workdir'
        ) from None

  def undecided(
    self, cells: Iterable[Config], seeds_per_job: int | None = None
  ) -> list[Config]:
    """The cells that no earlier start has divided.

    Args:
      cells: of the grid.
      seeds_per_job: that this start asks for.

    Raises:
      ConfigError: an earlier start divided a cell into larger blocks, or its
        blocks exist but the record of their number is lost.
    """
    found = []
    for cell in cells:
      name = jobs.full_name(cell)
      count = self._counts.get(name)
      if count is None:
        found.append(cell)
        if not seeds_per_job and any((self._workdir / name).glob('seeds-*')):
          raise ConfigError(
            f'{self._workdir / name} has blocks of seeds, but {self._path} '
            'does not contain their number; give --seeds_per_job as before'
          )
      elif seeds_per_job and count < -(-cell.num_seeds // seeds_per_job):
        raise ConfigError(
          f'--seeds_per_job={seeds_per_job}: an earlier start divided {name} '
          f'into {count} job(s); omit the flag, or choose another --workdir'
        )
    return found

  def decide(self, counts: Mapping[Config, int]) -> None:
    """Sets the number of blocks of undecided cells, without writing it yet."""
    for cell, count in counts.items():
      self._counts.setdefault(jobs.full_name(cell), count)

  def write(self) -> None:
    """Writes what was decided."""
    text = json.dumps({'jobs': self._counts}, indent=2) + '\n'
    replace_text(self._path, text)

  def jobs_of(self, cell: Config, extra: Sequence[str] = ()) -> list[jobs.Job]:
    """The jobs of a cell: one, or one for each block of seeds.

    Args:
      cell: of the grid.
      extra: flags of `launch.train` for all of them.
    """
    name = jobs.full_name(cell)
    count = min(self._counts.get(name, 1), cell.num_seeds)
    if count == 1:
      return [jobs.Job(cell, self._workdir, name, tuple(extra))]
    return [
      jobs.Job(
        block,
        self._workdir,
        f'{name}/seeds-{block.seed}-{block.seed + block.num_seeds - 1}',
        tuple(extra),
      )
      for block in blocks(cell, count)
    ]
