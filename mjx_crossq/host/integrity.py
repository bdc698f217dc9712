"""Whether checkpoints are complete and undamaged: SHA-256 of every file.

`SHA256SUMS` has the format of coreutils: `sha256sum --check SHA256SUMS` in the
folder of a checkpoint verifies it too.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from mjx_crossq.config import ConfigError

SUMS = 'SHA256SUMS'
FORMAT = 2
"""Recorded in every checkpoint; another version may write another one."""
METADATA = '_CHECKPOINT_METADATA'
_UNFINISHED = f'{SUMS} is missing: it was not saved to the end'


def seal(folder: Path) -> None:
  """Writes `SHA256SUMS` for all files below a folder; it appears complete."""
  lines = [f'{_digest(folder / name)}  {name}\n' for name in _files(folder)]
  partial = folder / f'.{SUMS}'
  with partial.open('w', encoding='utf-8') as file:
    file.writelines(lines)
    file.flush()
    os.fsync(file.fileno())
  os.replace(partial, folder / SUMS)


def newest_intact(
  directory: Path, part: str = '', report: Callable[[str], None] = print
) -> int | None:
  """Finds the checkpoint to go on from.

  Args:
    directory: the folder of checkpoints.
    part: the only item that will be read; '' for all.
    report: receives a line about each damaged checkpoint that is passed over.

  Returns:
    Its env step; None if there is no checkpoint, or only one, whose save a
    killed process did not finish.

  Raises:
    ConfigError: there are checkpoints, and all of them are damaged.
  """
  faults = {}
  steps = saved(directory)
  for step in reversed(steps):
    wrong = fault(directory / str(step), part)
    if wrong is None:
      for other, why in faults.items():
        report(
          f'warning: the checkpoint at env step {other} is damaged ({why}); '
          f'taking the one at {step} instead'
        )
      return step
    faults[step] = wrong
  if list(faults.values()) == [_UNFINISHED]:
    report(f'the checkpoint at env step {steps[0]} was not saved to the end')
    return None
  if faults:
    found = '; '.join(f'{step}: {why}' for step, why in faults.items())
    raise ConfigError(
      f'no intact checkpoint in {directory} ({found}); put back a copy, or '
      'start again in another --workdir'
    )
  return None


def set_aside(directory: Path, after: int | None) -> list[Path]:
  """Moves checkpoints away, so that their env steps can be saved again.

  Args:
    directory: the folder of checkpoints.
    after: checkpoints of later env steps are moved; None moves all.

  Returns:
    Their new folders, in `damaged` beside the folder of checkpoints.
  """
  moved = []
  for step in saved(directory):
    if after is None or step > after:
      target = directory.parent / 'damaged' / str(step)
      target.parent.mkdir(exist_ok=True)
      if target.exists():
        shutil.rmtree(target)
      moved.append((directory / str(step)).rename(target))
  return moved


def fault(folder: Path, part: str = '') -> str | None:
  """What is wrong with one checkpoint, or None.

  Args:
    folder: of the checkpoint.
    part: the only item that will be read; '' for all.

  Raises:
    ConfigError: a newer version of this package has written it.
  """
  finished = (folder / SUMS).exists()
  if finished and (wrong := _mismatch(folder, part)):
    return wrong
  try:
    record = json.loads((folder / METADATA).read_text(encoding='utf-8'))
    found = int(record['custom_metadata']['format'])
  except (OSError, ValueError, KeyError, TypeError):
    return f'{METADATA} is missing or damaged'
  if found > FORMAT:
    raise ConfigError(
      f'{folder} has format {found}, this version reads up to {FORMAT}: '
      'upgrade mjx_crossq'
    )
  return None if finished else _UNFINISHED


def saved(directory: Path) -> list[int]:
  """Env steps that have a folder, intact or not, oldest first."""
  if not directory.is_dir():
    return []
  return sorted(int(name) for name in os.listdir(directory) if name.isdigit())


def _mismatch(folder: Path, part: str = '') -> str | None:
  """What is wrong with a folder, or None.

  Args:
    folder: holds `SHA256SUMS`.
    part: a subfolder; the files of other ones are not read.

  Returns:
    The first file that is missing, damaged or not listed, as a phrase.
  """
  try:
    text = (folder / SUMS).read_bytes().decode('utf-8')
  except (OSError, ValueError):
    return f'{SUMS} is missing or damaged'
  *lines, incomplete = text.split('\n')
  if incomplete:
    return f'{SUMS} is damaged'
  sums: dict[str, str] = {}
  for line in lines:
    digest, _, name = line.partition('  ')
    sums[name] = digest

  def wanted(name: str) -> bool:
    return '/' not in name or not part or name.startswith(f'{part}/')

  found = _files(folder)
  for name in filter(wanted, found):
    if name not in sums:
      return f'{name} is not in {SUMS}'
  for name in filter(wanted, sums):
    if name not in found:
      return f'{name} is missing'
    try:
      if _digest(folder / name) != sums[name]:
        return f'{name} is damaged'
    except OSError as error:
      return f'{name} cannot be read ({error.strerror})'
  return None


def _files(folder: Path) -> list[str]:
  """Relative names of the files below a folder; hidden ones do not count."""
  return sorted(
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if path.is_file() and path.name != SUMS and not path.name.startswith('.')
  )


def _digest(path: Path) -> str:
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
