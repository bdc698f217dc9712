"""Runs programs of `launch` as users do."""

import contextlib
import json
import os
import subprocess
import sys

# Calls a program with each line of flags: exit code, output, errors.
_EACH = """
import contextlib, functools, importlib, io, json, sys
from absl import flags
from mjx_crossq import envs

envs.load = functools.cache(envs.load)
program = importlib.import_module('mjx_crossq.launch.' + sys.argv[1])
exec(sys.argv[2])
for line in sys.stdin:
  flags.FLAGS.unparse_flags()
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()
  sys.argv = ['program', *json.loads(line)]
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      program.run()
      code = 0
    except SystemExit as stop:
      code = stop.code or 0
    except BaseException as error:
      code = repr(error)
  print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


def run(program, *flags):
  return subprocess.run(
    [sys.executable, '-m', f'mjx_crossq.launch.{program}', *flags],
    capture_output=True,
    text=True,
    check=False,
  )


@contextlib.contextmanager
def called(program, cwd=None, prepare=''):
  """A function from flags to exit code, output and errors of a program.

  One process for all calls: most of a start is importing JAX. `prepare` is
  code that changes `program`, its module, before the first one.
  """
  with subprocess.Popen(
    [sys.executable, '-c', _EACH, program, prepare],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
    cwd=cwd,
    env={
      **os.environ,
      'JAX_PLATFORMS': 'cpu',
      'PYTHONPATH': os.pathsep.join([os.getcwd(), *sys.path]),
    },
  ) as process:

    def call(*flags):
      process.stdin.write(json.dumps(flags) + '\n')
      process.stdin.flush()
      return json.loads(process.stdout.readline())

    yield call
    process.stdin.close()
  assert process.returncode == 0


def check_errors(program, cases):
  """Each tuple of flags must be refused in one line that has the text."""
  with called(program) as call:
    for args, message in cases.items():
      code, output, errors = call(*args)
      assert code == 2, (args, code, errors)
      assert errors.startswith('error: '), (args, errors)
      assert errors.count('\n') == 1, (args, errors)
      assert message in errors, (args, errors)
      assert 'compiling' not in output
