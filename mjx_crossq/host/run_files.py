"""The files that a run writes in its folder, checkpoints excepted.

A run has `config.json`, `metrics.jsonl` and `eval.csv`. With `vary`, the run's
folder has its `config.json` and, with PBT, `pbt.jsonl`; each variant has the
three files in `variants/<name>/`, so that whatever reads a run reads it.
"""

import contextlib
import csv
import io
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq import vary, versions
from mjx_crossq.atomic import replace_text
from mjx_crossq.config import Config
from mjx_crossq.envs import prng
from mjx_crossq.errors import WriteError
from mjx_crossq.results.curves import read_returns

EVAL_HEADER = ('seed', 'env_step', 'physics', 'episode', 'episode_return')


class RunFiles:
  """The files of all variants of a run; without `vary` there is one variant.

  Opening the files of a resumed run drops what was written after its
  checkpoint, so that no record appears twice. Of the checkpoint's own env
  step, incomplete records are dropped too. A process may have been killed
  between two variants' files: a variant that has the records of the
  checkpoint's env step does not get them again.

  Attributes:
    workdir: the run's folder.
    has_metrics: whether every variant has the records of the checkpoint's env
      step.
    has_returns: whether every variant has its evaluation.
  """

  def __init__(
    self,
    workdir: Path,
    config: Config,
    resumed_at: int,
    rows: int = 0,
    lineage: Mapping[str, Any] | None = None,
    redone: Collection[int] = (),
  ):
    """Opens the files.

    Args:
      workdir: an existing folder.
      config: written to `config.json`.
      resumed_at: env step of the checkpoint; 0 for a new run.
      rows: of a variant's complete evaluation; 0 if none is due at that step.
      lineage: of networks that a new run begins with.
      redone: env steps up to the checkpoint's whose evaluations are repeated;
        what is written of them is dropped.
    """
    self.workdir = workdir
    self._resumed_at = resumed_at
    self._seeds = config.num_seeds
    write_config(workdir, config, resumed_at, lineage)
    variants = vary.variants(config)
    folders = vary.folders(workdir, config)
    with contextlib.ExitStack() as stack:
      self._variants: list[_VariantFiles] = []
      for variant, folder in zip(variants, folders, strict=True):
        if folder != workdir:
          write_config(folder, variant.config, resumed_at, lineage)
        files = _VariantFiles(
          folder, config.num_seeds, resumed_at, rows, redone
        )
        self._variants.append(stack.enter_context(files))
      self._pbt: Any = None
      if config.pbt_every:
        # A step of PBT comes after the checkpoint of its env step.
        path = workdir / 'pbt.jsonl'
        replace_text(path, _records(path, _json_step, resumed_at - 1, 0)[0])
        self._pbt = stack.enter_context(path.open('a', encoding='utf-8'))
      self._stack = stack.pop_all()
    self.has_metrics = all(files.has_metrics for files in self._variants)
    self.has_returns = all(files.has_returns for files in self._variants)
    self._folders = folders

  def __enter__(self) -> 'RunFiles':
    """Returns itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Closes the files."""
    # A file that cannot be closed has raised a WriteError before.
    with contextlib.suppress(OSError):
      self._stack.close()

  def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends one JSON line per row; NaN and infinity become null.

    Args:
      records: one for each row of the run, all of one env step.

    Raises:
      WriteError: the operating system refused, for instance on a full disk.
    """
    records = list(records)
    for index, files in enumerate(self._variants):
      mine = records[index * self._seeds : (index + 1) * self._seeds]
      written = files.has_metrics and mine[0]['env_step'] == self._resumed_at
      if not written:
        lines = (
          json.dumps({k: _plain(v) for k, v in record.items()}) + '\n'
          for record in mine
        )
        append(files.metrics, ''.join(lines))

  def write_evaluation(
    self, seeds: Sequence[int], step: int, returns: Mapping[str, np.ndarray]
  ) -> None:
    """Appends an evaluation to `eval.csv`.

    Args:
      seeds: absolute seeds of the rows.
      step: env step of the policy.
      returns: `(rows, episodes)` by physics: `mjx`, `warp` or `dm_control`.

    Raises:
      WriteError: the operating system refused, for instance on a full disk.
    """
    for physics, values in returns.items():
      self._write_returns(seeds, step, physics, values)

  def evaluation(self) -> dict[str, np.ndarray]:
    """The evaluation of the checkpoint's env step, if `has_returns`.

    Returns:
      Returns `(rows, episodes)` by physics.
    """
    found: dict[str, list[np.ndarray]] = {}
    for folder in self._folders:
      for physics, seeds in read_returns(folder / 'eval.csv').items():
        rows = [seeds[seed][self._resumed_at] for seed in sorted(seeds)]
        found.setdefault(physics, []).extend(rows)
    return {physics: np.stack(rows) for physics, rows in found.items()}

  def _write_returns(
    self, seeds: Sequence[int], step: int, physics: str, returns: np.ndarray
  ) -> None:
    for index, files in enumerate(self._variants):
      if files.has_returns and step == self._resumed_at:
        continue
      mine = slice(index * self._seeds, (index + 1) * self._seeds)
      lines = io.StringIO()
      writer = csv.writer(lines, lineterminator='\n')
      for seed, row in zip(seeds[mine], returns[mine], strict=True):
        for episode, value in enumerate(row):
          writer.writerow((seed, step, physics, episode, f'{value:.6g}'))
      append(files.evals, lines.getvalue())

  def write_pbt(self, record: Mapping[str, Any]) -> None:
    """Appends a step of PBT to `pbt.jsonl`.

    Raises:
      WriteError: the operating system refused, for instance on a full disk.
    """
    append(self._pbt, json.dumps(record) + '\n')


class _VariantFiles:
  """`metrics.jsonl` and `eval.csv` of one variant, opened to append.

  Attributes:
    metrics: the one file.
    evals: the other.
    has_metrics: whether the records of the checkpoint's env step are there.
    has_returns: whether its evaluation is.
  """

  def __init__(
    self,
    folder: Path,
    num_seeds: int,
    resumed_at: int,
    rows: int,
    redone: Collection[int],
  ):
    metrics, evals = folder / 'metrics.jsonl', folder / 'eval.csv'
    kept, self.has_metrics = _records(
      metrics, _json_step, resumed_at, num_seeds
    )
    replace_text(metrics, kept)
    kept, self.has_returns = _records(
      evals, _csv_step, resumed_at, rows, redone
    )
    replace_text(evals, ','.join(EVAL_HEADER) + '\n' + kept)
    self.metrics = metrics.open('a', encoding='utf-8')
    self.evals = evals.open('a', encoding='utf-8', newline='')

  def __enter__(self) -> '_VariantFiles':
    return self

  def __exit__(self, *_: Any) -> None:
    try:
      self.metrics.close()
    finally:
      self.evals.close()


def write_config(
  workdir: Path,
  config: Config,
  env_step: int = 0,
  lineage: Mapping[str, Any] | None = None,
) -> None:
  """Writes `config.json`: the configuration, and what computes it.

  Args:
    workdir: folder of the run, or of one of its variants.
    config: of it.
    env_step: where this process goes on; 0 for a new run.
    lineage: of networks that the run began with; None keeps what is recorded.
  """
  path = workdir / 'config.json'
  record = {
    'config': config.to_dict(),
    'versions': versions.current(),
    'prng': prng.IMPL,
    'history': versions.continued(path, env_step),
  }
  if lineage := lineage or lineage_of(path):
    record['init'] = lineage
  replace_text(path, json.dumps(record, indent=2) + '\n')


def lineage_of(path: Path) -> dict[str, Any] | None:
  """Where a `config.json` says that its run's networks are from, or None."""
  try:
    found = json.loads(path.read_text(encoding='utf-8'))['init']
  except (OSError, ValueError, KeyError, TypeError, RecursionError):
    return None
  return found if isinstance(found, dict) else None


def append(file: Any, text: str) -> None:
  """Writes complete lines to the end of a file.

  Args:
    file: opened to append text.
    text: the lines.

  Raises:
    WriteError: the operating system refused, for instance on a full disk.
  """
  try:
    file.write(text)
    file.flush()
  except OSError as error:
    raise WriteError(
      f'cannot write {file.name}: {error.strerror}; make room and go on with '
      '--resume'
    ) from error


def _plain(value: Any) -> Any:
  """A JSON value; numbers that JSON does not have become null."""
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _json_step(line: str) -> int:
  return int(json.loads(line)['env_step'])


def _csv_step(line: str) -> int:
  return int(dict(zip(EVAL_HEADER, line.split(','), strict=True))['env_step'])


def _records(
  path: Path,
  step_of: Callable[[str], int],
  last: int,
  count: int,
  dropped: Collection[int] = (),
) -> tuple[str, bool]:
  """The records of a file up to an env step, as text.

  Args:
    path: the file; need not exist.
    step_of: env step of a line.
    last: records of later env steps are dropped.
    count: records that the last env step has when it is complete; 0 if it need
      not have any, and then those that it has are kept.
    dropped: env steps of which no record is kept.

  Returns:
    The records, and whether those of the last env step are complete; if they
    are not, none of them is kept.
  """
  if not path.exists():
    return '', False
  earlier, at_last = [], []
  for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
    try:
      step = step_of(line)
    except (ValueError, KeyError, TypeError):
      continue  # a header, or a line that a killed process wrote in part
    if step in dropped:
      continue
    if 0 <= step < last:
      earlier.append(line + '\n')
    elif step == last:
      at_last.append(line + '\n')
  complete = 0 < count == len(at_last)
  keep = complete or not count
  return ''.join(earlier + at_last if keep else earlier), complete
