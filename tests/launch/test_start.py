"""Help and wrong flags are answered before anything heavy is imported."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ('jax', 'mujoco', 'matplotlib', 'dm_control', 'orbax', 'scipy')

_CODE = """
import importlib, json, sys
program = importlib.import_module('mjx_crossq.launch.' + sys.argv[1])
sys.argv = sys.argv[1:]
try:
  program.run()
except SystemExit as stop:
  code = stop.code or 0
print()
print(json.dumps([code, sorted(set(HEAVY) & {*sys.modules})]))
"""

# A simple error of each program.
ERRORS = {
  'benchmark': '--plot=a.png',
  'evaluate': '--step=1',
  'export': '--step=1',
  'parity': '--measures=taste',
  'plot': '--tasks=all',
  'render': '--format=html',
  'report': '--output=report.txt',
  'reproduce': '--scale=cpu',
  'sweep': '--grid=utd=1',
  'train': '--utd=0',
}


def start(program, flag):
  """Exit code and heavy packages that were imported."""
  done = subprocess.run(
    [sys.executable, '-c', f'HEAVY = {HEAVY}\n{_CODE}', program, flag],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout, done.stderr
  return (*json.loads(done.stdout.splitlines()[-1]), done.stderr)


@pytest.mark.parametrize('program', [*ERRORS, 'view'])
def test_help_is_quick(program):
  code, heavy, _ = start(program, '--help')
  assert (code, heavy) == (0, [])


_WINDOWS = """
import os, sys
import brax, jax, orbax.checkpoint  # what they need of Unix is their own
sys.modules['fcntl'] = None
del os.register_at_fork, os.sched_getaffinity
import mjx_crossq, mjx_crossq.launch.evaluate
from mjx_crossq import ConfigError, from_preset, load_policy
from mjx_crossq.host.workdir import in_use, own_workdir
from mjx_crossq.policy import export, loading
from pathlib import Path
assert not in_use(Path(sys.argv[1]))
try:
  with own_workdir(Path(sys.argv[1]), from_preset(), False):
    pass
except ConfigError as error:
  print(error)
"""


def test_without_the_modules_of_unix_policies_can_be_used(tmp_path):
  done = subprocess.run(
    [sys.executable, '-c', _WINDOWS, str(tmp_path / 'run')],
    capture_output=True,
    text=True,
    check=True,
  )
  assert 'take WSL on Windows' in done.stdout
  assert not (tmp_path / 'run' / 'config.json').exists()


@pytest.mark.parametrize('platform', ['cuda', 'nonsense'])
def test_a_platform_that_is_not_here_is_one_line(platform, tmp_path):
  done = subprocess.run(
    [
      *(sys.executable, '-m', 'mjx_crossq.launch.train'),
      *('--task=pendulum-swingup', f'--workdir={tmp_path / "run"}'),
    ],
    env={**os.environ, 'JAX_PLATFORMS': platform},
    capture_output=True,
    text=True,
    check=False,
  )
  if done.returncode == 0:
    pytest.skip(f'{platform} is here')
  *_, line = done.stderr.splitlines()
  assert done.returncode == 2 and 'Traceback' not in done.stderr
  assert line.startswith('error: JAX does not start with JAX_PLATFORMS=')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('program', ERRORS)
def test_wrong_flags_are_refused_at_once(program):
  code, heavy, errors = start(program, ERRORS[program])
  assert (code, heavy) == (2, [])
  assert errors.startswith('error: ') and errors.count('\n') == 1
