"""Runs programs of `launch` as users do."""

import json
import subprocess
import sys

# Prints what `main` of a program refuses each of the lists of flags with.
_EACH = """
import importlib, json, sys
from absl import flags
from absl.testing import flagsaver
from mjx_crossq import ConfigError

name, cases = sys.argv[1], json.loads(sys.argv[2])
program = importlib.import_module(f'launch.{name}')
errors = []
for args in cases:
  with flagsaver.flagsaver():
    flags.FLAGS([name, *args])
    try:
      program.main()
      errors.append('')
    except ConfigError as error:
      errors.append(str(error))
print(json.dumps(errors))
"""


def run(program, *flags):
  return subprocess.run(
    [sys.executable, '-m', f'launch.{program}', *flags],
    capture_output=True,
    text=True,
    check=False,
  )


def check_errors(program, cases):
  """Each tuple of flags must be refused with a message that has the text.

  One process for all of them: most of a start is importing JAX.
  """
  done = subprocess.run(
    [sys.executable, '-c', _EACH, program, json.dumps([*cases])],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
  errors = json.loads(done.stdout.splitlines()[-1])
  for (args, message), error in zip(cases.items(), errors, strict=True):
    assert message in error, (args, error)
