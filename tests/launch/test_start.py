"""Help and wrong flags are answered before anything heavy is imported."""

import json
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


@pytest.mark.parametrize('program', ERRORS)
def test_wrong_flags_are_refused_at_once(program):
  code, heavy, errors = start(program, ERRORS[program])
  assert (code, heavy) == (2, [])
  assert errors.startswith('error: ') and errors.count('\n') == 1
