"""The files of a run with `vary`: each variant's are those of a run of its own.

In the run's folder are its `config.json`, its checkpoints and, with PBT,
`pbt.jsonl`; a variant has `config.json`, `metrics.jsonl` and `eval.csv` in
`variants/<name>/`, so that whatever reads a run reads it.
"""

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq import vary
from mjx_crossq.config import Config
from mjx_crossq.host import run_files as logging
from mjx_crossq.host.run_files import RunFiles


class VariantFiles:
  """`RunFiles` of all variants, with its interface over the rows of the run.

  A process may have been killed between two variants' files: what one has of
  the checkpoint's env step is not written to it again.

  Attributes:
    workdir: the run's folder.
    has_metrics: whether every variant has the checkpoint's records.
    has_returns: whether every variant has its evaluation.
  """

  def __init__(
    self, workdir: Path, config: Config, resumed_at: int, rows: int = 0
  ):
    """Opens the files.

    Args:
      workdir: an existing folder.
      config: of the run.
      resumed_at: env step of the checkpoint; 0 for a new run.
      rows: of a variant's whole evaluation; 0 if none is due at that env step.
    """
    self.workdir = workdir
    self._resumed_at = resumed_at
    self._seeds = config.num_seeds
    logging.write_config(workdir, config)
    with contextlib.ExitStack() as stack:
      self._files = []
      for variant, folder in zip(
        vary.variants(config), vary.folders(workdir, config), strict=True
      ):
        files = RunFiles(folder, variant.config, resumed_at, rows)
        self._files.append(stack.enter_context(files))
      self._pbt: Any = None
      if config.pbt_every:
        path = workdir / 'pbt.jsonl'
        # A step of PBT comes after the checkpoint of its env step.
        logging.keep_until(path, resumed_at - 1)
        self._pbt = stack.enter_context(path.open('a', encoding='utf-8'))
      self._stack = stack.pop_all()
    self.has_metrics = all(files.has_metrics for files in self._files)
    self.has_returns = all(files.has_returns for files in self._files)

  def __enter__(self) -> 'VariantFiles':
    """Returns itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Closes the files."""
    self._stack.close()

  def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends a record of each row to its variant's file.

    Raises:
      WriteError: the disk is full, or what else the system says.
    """
    records = list(records)
    for index, files in enumerate(self._files):
      mine = records[index * self._seeds : (index + 1) * self._seeds]
      again = mine[0]['env_step'] == self._resumed_at
      if not (again and files.has_metrics):
        files.write_metrics(mine)

  def write_returns(
    self, seeds: Sequence[int], step: int, physics: str, returns: np.ndarray
  ) -> None:
    """Appends an evaluation, as `RunFiles` does.

    Args:
      seeds: absolute seeds of the rows.
      step: env step of the policy.
      physics: `mjx` or `dm_control`.
      returns: `(rows, episodes)`.

    Raises:
      WriteError: the disk is full, or what else the system says.
    """
    for index, files in enumerate(self._files):
      if step == self._resumed_at and files.has_returns:
        continue
      mine = slice(index * self._seeds, (index + 1) * self._seeds)
      files.write_returns(seeds[mine], step, physics, returns[mine])

  def write_pbt(self, record: Mapping[str, Any]) -> None:
    """Appends a step of PBT to `pbt.jsonl`.

    Raises:
      WriteError: the disk is full, or what else the system says.
    """
    logging.append(self._pbt, json.dumps(record) + '\n')


def open_files(
  workdir: Path, config: Config, resumed_at: int, rows: int
) -> RunFiles | VariantFiles:
  """The files of a run, as its configuration has them."""
  kind = VariantFiles if config.vary else RunFiles
  return kind(workdir, config, resumed_at, rows)
