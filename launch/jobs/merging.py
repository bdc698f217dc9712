"""The records of a run's processes as those of one run."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from mjx_crossq.atomic import replacing
from mjx_crossq.config import Config
from mjx_crossq.host.run_files import EVAL_HEADER, write_config
from mjx_crossq.results import plotting


def merge(workdir: Path, config: Config, parts: Sequence[Path]) -> None:
  """Makes a folder that reads as one run of all seeds.

  The records of the processes are put together in the order in which one
  process would have written them; the checkpoints stay where they are.

  Args:
    workdir: folder of the whole run.
    config: of the whole run.
    parts: the processes' folders, in the order of their seeds.
  """
  write_config(workdir, config)
  records = [_lines(part / 'metrics.jsonl') for part in parts]
  ordered = sorted(
    itertools.chain(*records), key=lambda line: json.loads(line)['env_step']
  )
  _write(workdir / 'metrics.jsonl', ''.join(ordered))
  step, physics = map(EVAL_HEADER.index, ('env_step', 'physics'))
  rows = [_lines(part / 'eval.csv')[1:] for part in parts]
  cells = [line.split(',') for line in itertools.chain(*rows)]
  first = {name: None for name in (row[physics] for row in cells)}
  names = list(first)  # in the order in which they were evaluated
  cells.sort(key=lambda row: (int(row[step]), names.index(row[physics])))
  header = ','.join(EVAL_HEADER) + '\n'
  _write(workdir / 'eval.csv', header + ''.join(map(','.join, cells)))
  plotting.learning_curve(
    workdir / 'eval.csv',
    f'{config.task}, {config.preset}',
    workdir / 'learning_curve.png',
  )


def _lines(path: Path) -> Sequence[str]:
  return path.read_text(encoding='utf-8').splitlines(keepends=True)


def _write(path: Path, text: str) -> None:
  with replacing(path) as draft:
    draft.write_text(text, encoding='utf-8')
