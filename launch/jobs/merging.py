"""The records of a cell's blocks of seeds as those of one run."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from mjx_crossq import vary
from mjx_crossq.atomic import replace_text
from mjx_crossq.config import Config, ConfigError
from mjx_crossq.host.run_files import EVAL_HEADER
from mjx_crossq.launch.jobs.jobs import Job
from mjx_crossq.results import plotting


def merge(folder: Path, config: Config, blocks: Sequence[Job]) -> bool:
  """Writes the records of one run of all seeds into a cell's folder.

  The lines have the order in which one process would have written them. The
  checkpoints stay in the blocks' folders. A folder that already has these
  records is left unchanged.

  Args:
    folder: of the cell.
    config: of the cell.
    blocks: its jobs in the order of their seeds.

  Returns:
    Whether anything was written.

  Raises:
    ConfigError: the records of a block are damaged.
  """
  variants = zip(
    vary.folders(folder, config), vary.variants(config), strict=True
  )
  parts = zip(
    *(vary.folders(block.folder, block.config) for block in blocks),
    strict=True,
  )
  try:
    merged = [
      _merge(where, variant.config, sources)
      for (where, variant), sources in zip(variants, parts, strict=True)
    ]
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise ConfigError(
      f'the records of the blocks of seeds in {folder} cannot be merged: '
      f'{error!r}; repair or remove the damaged block, and train it again'
    ) from None
  if any(merged) and config.vary:
    _write_config(folder, config, blocks[0].folder)
  return any(merged)


def _merge(folder: Path, config: Config, parts: Sequence[Path]) -> bool:
  """Merges the folders of one variant; the picture comes last."""
  picture = folder / 'learning_curve.png'
  texts = {
    'metrics.jsonl': _metrics(parts),
    'eval.csv': _evaluations(parts),
  }
  if picture.exists() and all(
    (folder / name).exists() and _read(folder / name) == text
    for name, text in texts.items()
  ):
    return False
  _write_config(folder, config, parts[0])
  for name, text in texts.items():
    replace_text(folder / name, text)
  plotting.learning_curve(
    folder / 'eval.csv', f'{config.task}, {config.preset}', picture
  )
  return True


def _metrics(parts: Sequence[Path]) -> str:
  """Records by env step, those of an env step in the order of the seeds."""
  records = [_lines(part / 'metrics.jsonl') for part in parts]
  return ''.join(
    sorted(
      itertools.chain(*records), key=lambda line: json.loads(line)['env_step']
    )
  )


def _evaluations(parts: Sequence[Path]) -> str:
  """Episodes by env step and physics, then in the order of the seeds."""
  step, physics = map(EVAL_HEADER.index, ('env_step', 'physics'))
  tables = [_lines(part / 'eval.csv')[1:] for part in parts]
  rows = [line.split(',') for line in itertools.chain(*tables)]
  # At each env step a run evaluates the physics in the same order.
  order = list(dict.fromkeys(row[physics] for row in rows))
  rows.sort(key=lambda row: (int(row[step]), order.index(row[physics])))
  return ','.join(EVAL_HEADER) + '\n' + ''.join(map(','.join, rows))


def _write_config(folder: Path, config: Config, part: Path) -> None:
  """Writes `config.json`, with the versions with which a part was trained."""
  record = json.loads(_read(part / 'config.json')) | {
    'config': config.to_dict()
  }
  replace_text(folder / 'config.json', json.dumps(record, indent=2) + '\n')


def _read(path: Path) -> str:
  return path.read_text(encoding='utf-8')


def _lines(path: Path) -> list[str]:
  return _read(path).splitlines(keepends=True)
