"""The versions of the packages that compute a run, and when they changed."""

import functools
import importlib.metadata
import json
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Versions = Mapping[str, str | None]

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


@functools.cache
def current() -> Versions:
  """Python, packages and, in a git checkout, the commit (or None)."""
  found: dict[str, str | None] = {'python': platform.python_version()}
  for package in _PACKAGES:
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  found['commit'] = _commit()
  return found


def history(record: Any) -> list[dict[str, Any]]:
  """The versions with which a run was trained, and from which env step on.

  Args:
    record: of a `config.json`; older ones have only the newest versions.

  Returns:
    `env_step` and `versions` of each change, by ascending env steps.
  """
  try:
    first = {'env_step': 0, 'versions': dict(record['versions'])}
    found = [
      {'env_step': int(x['env_step']), 'versions': dict(x['versions'])}
      for x in record.get('history', [first])
    ]
  except (AttributeError, KeyError, TypeError, ValueError):
    return []  # a damaged record, or one without versions
  return sorted(found, key=lambda x: x['env_step'])


def read_history(path: Path) -> list[dict[str, Any]]:
  """`history` of a `config.json`; empty if it cannot be read."""
  try:
    return history(json.loads(path.read_text(encoding='utf-8')))
  except (OSError, ValueError, RecursionError):
    return []


def continued(path: Path, env_step: int) -> list[dict[str, Any]]:
  """The history of a run that is continued with the present versions.

  Args:
    path: its `config.json`; need not exist.
    env_step: at which it is continued; 0 for a new run.
  """
  before = [x for x in read_history(path) if x['env_step'] < env_step]
  now = {'env_step': env_step, 'versions': current()}
  same = bool(before) and before[-1]['versions'] == now['versions']
  return before if same else [*before, now]


def changes(before: Versions, after: Versions) -> str:
  """The versions that differ, as text."""
  return ', '.join(
    f'{name} {before.get(name)} -> {after.get(name)}'
    for name in {**before, **after}
    if before.get(name) != after.get(name)
  )


def _commit() -> str | None:
  here = Path(__file__).resolve().parents[1]
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
