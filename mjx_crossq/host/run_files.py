"""What a run writes in its folder, and the line that it shows."""

import contextlib
import csv
import importlib.metadata
import io
import json
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq.config import Config
from mjx_crossq.errors import WriteError as WriteError

EVAL_HEADER = ('seed', 'env_step', 'physics', 'episode', 'episode_return')
_PACKAGES = (
  'mjx-crossq',
  'jax',
  'jaxlib',
  'mujoco',
  'mujoco-mjx',
  'brax',
  'dm_control',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
)


class RunFiles:
  """`config.json`, `metrics.jsonl` and `eval.csv` of a run.

  Opening the files of a run that goes on drops what was written after the
  checkpoint it goes on from, so that no record appears twice. What was
  written in part at the env step of the checkpoint itself is dropped too.

  Attributes:
    workdir: the folder.
    has_metrics: whether the records of the checkpoint's env step are there.
    has_returns: whether its evaluation is.
  """

  def __init__(
    self, workdir: Path, config: Config, resumed_at: int, rows: int = 0
  ):
    """Opens the files.

    Args:
      workdir: an existing folder.
      config: written to `config.json`.
      resumed_at: env step of the checkpoint; 0 for a new run.
      rows: of a whole evaluation; 0 if none is due at that env step.
    """
    self.workdir = workdir
    write_config(workdir, config)
    metrics, evals = workdir / 'metrics.jsonl', workdir / 'eval.csv'
    column = EVAL_HEADER.index('env_step')

    def step_of(line: str) -> int:
      cells = line.split(',')
      return int(cells[column]) if len(cells) == len(EVAL_HEADER) else -1

    kept, self.has_metrics = _kept(
      metrics,
      lambda line: int(json.loads(line)['env_step']),
      resumed_at,
      config.num_seeds,
    )
    _replace(metrics, kept)
    kept, self.has_returns = _kept(evals, step_of, resumed_at, rows)
    _replace(evals, ','.join(EVAL_HEADER) + '\n' + kept)
    self._metrics = metrics.open('a', encoding='utf-8')
    self._evals = evals.open('a', encoding='utf-8', newline='')

  def __enter__(self) -> 'RunFiles':
    """Returns itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Closes the files."""
    for file in (self._metrics, self._evals):
      # What could not be written was said when it could not.
      with contextlib.suppress(OSError):
        file.close()

  def write_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
    """Appends one JSON line a record; NaN and infinity become null.

    Raises:
      WriteError: the disk is full, or what else the system says.
    """
    lines = [
      json.dumps({k: _plain(v) for k, v in record.items()}) + '\n'
      for record in records
    ]
    append(self._metrics, ''.join(lines))

  def write_returns(
    self, seeds: Sequence[int], step: int, physics: str, returns: np.ndarray
  ) -> None:
    """Appends an evaluation to `eval.csv`.

    Args:
      seeds: absolute seeds.
      step: env step of the policy.
      physics: `mjx` or `dm_control`.
      returns: `(seeds, episodes)`.

    Raises:
      WriteError: the disk is full, or what else the system says.
    """
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator='\n')
    for seed, row in zip(seeds, returns, strict=True):
      for episode, value in enumerate(row):
        writer.writerow((seed, step, physics, episode, f'{value:.6g}'))
    append(self._evals, lines.getvalue())


def write_config(workdir: Path, config: Config) -> None:
  """Writes `config.json`: the configuration, and the versions in use."""
  record = {'config': config.to_dict(), 'versions': versions()}
  _replace(workdir / 'config.json', json.dumps(record, indent=2) + '\n')


def versions() -> dict[str, Any]:
  """Python, packages and, in a git checkout, the commit (or None)."""
  found: dict[str, Any] = {'python': platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  found['commit'] = _commit()
  return found


class Progress:
  """Speeds and time left between two log points."""

  def __init__(self, config: Config, iteration: int):
    """Starts the clock.

    Args:
      config: the budget.
      iteration: where the run starts.
    """
    self._config = config
    self._start = self._last = time.monotonic()
    self._first = self._iteration = iteration

  def speeds(self, iteration: int, device_seconds: float) -> dict[str, float]:
    """Speeds of one seed since the last call.

    Args:
      iteration: where the run is.
      device_seconds: what the training program took, without evaluation.
    """
    c = self._config
    steps = (iteration - self._iteration) * c.steps_per_iteration
    updates = c.updates_at(iteration) - c.updates_at(self._iteration)
    self._iteration = iteration
    return {
      'time/env_steps_per_second': steps / device_seconds,
      'time/updates_per_second': updates / device_seconds,
      'time/elapsed_seconds': time.monotonic() - self._start,
    }

  def line(
    self,
    iteration: int,
    speeds: Mapping[str, float],
    returns: np.ndarray,
    variants: Sequence[str] = (),
  ) -> str:
    """One line: env steps, speeds, return per seed, time left.

    Args:
      iteration: where the run is.
      speeds: as `speeds` gives them.
      returns: of each row's last training episodes, `(rows,)`.
      variants: names of the rows' variants.
    """
    c = self._config
    elapsed = time.monotonic() - self._start
    done = iteration - self._first
    left = elapsed / max(done, 1) * (c.iterations - iteration)
    step, total = (n * c.steps_per_iteration for n in (iteration, c.iterations))
    minutes, seconds = divmod(round(left), 60)
    return (
      f'{step:>9,} / {total:,} env steps | '
      f'{speeds["time/env_steps_per_second"]:7,.0f} env steps/s | '
      f'{speeds["time/updates_per_second"]:6,.0f} updates/s | '
      f'return {_shown(returns, variants)} | {minutes}:{seconds:02d} left'
    )


def evaluation_line(
  step: int,
  returns: Mapping[str, np.ndarray],
  variants: Sequence[str] = (),
) -> str:
  """One line: the mean return of each seed.

  Args:
    step: env step of the policy.
    returns: `(seeds, episodes)` by physics.
    variants: names of the rows' variants.
  """
  cells = [
    f'{physics} {_shown(values.mean(axis=1), variants)}'
    for physics, values in returns.items()
  ]
  return f'{step:>9,} evaluation: return in {", ".join(cells)}'


def result_table(
  seeds: Sequence[int],
  returns: Mapping[str, np.ndarray],
  variants: Sequence[str] = (),
) -> str:
  """Mean and spread of the last evaluation, a line for each seed.

  Args:
    seeds: absolute seeds.
    returns: `(seeds, episodes)` by physics.
    variants: names of the rows' variants; they stand behind the numbers.
  """
  names = list(returns)
  lines = ['  seed' + ''.join(f'{name:>24}' for name in names)]
  for index, seed in enumerate(seeds):
    cells = (
      f'{returns[name][index].mean():.1f} +- {returns[name][index].std():.1f}'
      for name in names
    )
    line = f'{seed:6}' + ''.join(f'{cell:>24}' for cell in cells)
    variant = variants[index] if variants else ''
    lines.append(f'{line}   {variant}' if variant else line)
  return '\n'.join(lines)


def _shown(returns: np.ndarray, variants: Sequence[str]) -> str:
  """Returns of the rows, rounded; a dash before the first episode's end."""
  groups: dict[str, list[str]] = {}
  for value, name in zip(returns, variants or [''] * len(returns), strict=True):
    cell = '-' if math.isnan(value) else f'{value:.0f}'
    groups.setdefault(name, [f'{name}:'] if name else []).append(cell)
  return ', '.join(' '.join(cells) for cells in groups.values())


def _plain(value: Any) -> Any:
  """A JSON value; numbers that JSON does not have become null."""
  if isinstance(value, np.generic):
    value = value.item()
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value


def _kept(
  path: Path, step_of: Callable[[str], int], last: int, count: int
) -> tuple[str, bool]:
  """The records of a file up to an env step, as text.

  Args:
    path: the file; need not exist.
    step_of: env step of a line.
    last: records of later env steps are dropped.
    count: records that the last env step has when it is whole.

  Returns:
    The records, and whether those of the last env step are all there; if not,
    none of them is kept.
  """
  if not path.exists():
    return '', False
  earlier, at_last = [], []
  for line in path.read_text(encoding='utf-8', errors='replace').splitlines():
    try:
      step = step_of(line)
    except (ValueError, KeyError, TypeError):
      continue  # a header, or a record that a killed process left torn
    if 0 <= step < last:
      earlier.append(line + '\n')
    elif step == last:
      at_last.append(line + '\n')
  whole = len(at_last) == count
  keep = whole or not count  # nothing is due there: what is there may stay
  return ''.join(earlier + at_last if keep else earlier), whole


def append(file: Any, text: str) -> None:
  """Writes whole lines to the end of a file.

  Args:
    file: opened to append text.
    text: the lines.

  Raises:
    WriteError: the disk is full, or what else the system says.
  """
  try:
    file.write(text)
    file.flush()
  except OSError as error:
    raise WriteError(
      f'cannot write {file.name}: {error.strerror}; make room and go on with '
      '--resume'
    ) from error


def keep_until(path: Path, step: int) -> None:
  """Drops the JSON lines of a file whose `env_step` is later.

  Args:
    path: the file; it is made if it is not there.
    step: the last env step that stays.
  """
  kept, _ = _kept(path, lambda line: int(json.loads(line)['env_step']), step, 0)
  _replace(path, kept)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
  """A file beside `path` that takes its place once it is whole.

  A reader finds the old file or the new one.

  Args:
    path: the file; its folder is made if it is not there.

  Raises:
    WriteError: the disk is full, or what else the system says.
  """
  draft = path.with_name(path.name + '.partial')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield draft
    os.replace(draft, path)
  except OSError as error:
    raise WriteError(
      f'cannot write {path}: {error.strerror or error}'
    ) from error
  finally:
    with contextlib.suppress(OSError):
      draft.unlink()


def _replace(path: Path, text: str) -> None:
  with replacing(path) as draft:
    draft.write_text(text, encoding='utf-8')


def _commit() -> str | None:
  here = Path(__file__).resolve().parents[2]
  try:
    top, head = subprocess.run(
      ['git', 'rev-parse', '--show-toplevel', 'HEAD'],
      cwd=here,
      capture_output=True,
      text=True,
      check=True,
      timeout=10,
    ).stdout.split()
  except (OSError, ValueError, subprocess.SubprocessError):
    return None
  # An installed copy may lie inside somebody else's repository.
  return head if Path(top) == here else None
