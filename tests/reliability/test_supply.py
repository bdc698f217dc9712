"""What is installed: hashes in the locks, and a wheel that is reproducible."""

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
  'name', ['requirements.lock', 'requirements-cuda.lock']
)
def test_every_locked_package_has_a_version_and_hashes(name):
  text = (ROOT / name).read_text().replace('\\\n', ' ')
  packages = [line for line in text.splitlines() if line.strip()]
  assert len(packages) > 50
  for line in packages:
    assert re.match(r'[\w.-]+(\[[\w,-]+\])?==[\w.!+]+', line), line
    assert re.search(r'--hash=sha256:[0-9a-f]{64}', line), line
    assert '://' not in line


def test_make_refuses_a_python_that_is_not_supported(tmp_path):
  python = tmp_path / 'python'
  python.write_text('#!/bin/sh\nexit 1\n')
  python.chmod(0o755)
  done = subprocess.run(
    [
      'make',
      '--no-print-directory',
      'venv',
      f'PYTHON={python}',
      f'VENV={tmp_path / "venv"}',
    ],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert done.stdout.startswith('Needs Python 3.11 or 3.12')
  assert not (tmp_path / 'venv').exists()


def test_on_python_3_13_all_needs_of_dm_control_but_labmaze_are_ours():
  def names(requirements):
    return {re.split(r'[\s;<>=!~\[]', x)[0].lower() for x in requirements}

  with (ROOT / 'pyproject.toml').open('rb') as file:
    ours = tomllib.load(file)['project']['dependencies']
  there = [x for x in ours if "python_version < '3.13'" not in x]
  theirs = importlib.metadata.requires('dm_control') or []
  needs = names(x for x in theirs if 'extra' not in x) - {'labmaze'}
  assert needs and needs <= names(there)
  assert 'dm_control' not in names(there)


@pytest.mark.slow
def test_the_wheel_is_reproducible(tmp_path):
  digests = set()
  for name in 'ab':
    source = tmp_path / name
    for folder in ('mjx_crossq', 'envs', 'launch'):
      shutil.copytree(
        ROOT / folder,
        source / folder,
        ignore=shutil.ignore_patterns('__pycache__'),
      )
    for file in ('pyproject.toml', 'README.md', 'LICENSE'):
      shutil.copy(ROOT / file, source)
    subprocess.run(
      [sys.executable, '-m', 'build', '--wheel', '--no-isolation', '.'],
      cwd=source,
      env={**os.environ, 'SOURCE_DATE_EPOCH': '1700000000'},
      check=True,
      capture_output=True,
    )
    (wheel,) = (source / 'dist').glob('*.whl')
    digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
  assert len(digests) == 1
