"""Runs programs of `launch` as users do, in processes of their own.

The processes are forks of one that has imported JAX and MuJoCo, which is most
of a start, but has neither a backend nor flags yet.
"""

import contextlib
import functools
import importlib
import io
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

from mjx_crossq import envs

# A run whose programs compile quickly.
SMALL = tuple(
  f'--set={value}'
  for value in (
    'critic_width=8',
    'actor_width=8',
    'warmup=5',
    'batch_size=4',
    'replay_capacity=2000',
  )
)

_FORKS = multiprocessing.get_context('forkserver')
_FORKS.set_forkserver_preload(['tests.launch.preload'])
_SECONDS = 600


def run(program, *flags, seconds=_SECONDS):
  """`python -m mjx_crossq.launch.PROGRAM FLAGS...`."""
  name = f'mjx_crossq.launch.{program}'
  return run_module(name, *flags, seconds=seconds)


def run_module(name, *arguments, seconds=_SECONDS):
  """`python -m NAME ARGUMENTS...`, with the environment of this process.

  Args:
    name: of the module.
    *arguments: of the program.
    seconds: after which it is killed; its returncode is negative then.
  """
  with tempfile.TemporaryDirectory() as folder:
    outputs = [Path(folder) / name for name in ('out', 'err')]
    where = os.getcwd(), os.getcwd(), dict(os.environ)
    process = _FORKS.Process(
      target=_main, args=(name, arguments, where, outputs)
    )
    process.start()
    process.join(seconds)
    if process.exitcode is None:
      process.kill()
      process.join()
    texts = [path.read_text() if path.exists() else '' for path in outputs]
  command = [name, *arguments]
  return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _main(module, arguments, where, outputs):
  _enter(where)
  for number, path in enumerate(outputs, 1):
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, number)
  sys.argv = [module, *arguments]
  runpy.run_module(module, run_name='__main__', alter_sys=True)


def _enter(where):
  root, cwd, variables = where
  os.environ.clear()
  os.environ.update(variables)
  sys.path.insert(0, root)
  os.chdir(cwd)


@contextlib.contextmanager
def called(program, cwd=None, prepare=None):
  """A function from flags to exit code, output and errors of a program.

  One process for all calls. `prepare` is a function that changes the module
  of the program before the first one.
  """
  here, there = _FORKS.Pipe()
  where = os.getcwd(), cwd or os.getcwd(), dict(os.environ)
  process = _FORKS.Process(
    target=_serve, args=(program, where, there, prepare), daemon=True
  )
  process.start()
  there.close()

  def call(*flags):
    here.send(flags)
    assert here.poll(_SECONDS), (program, flags)
    return here.recv()

  try:
    yield call
    here.send(None)
    process.join(_SECONDS)
  finally:
    process.kill()
  assert process.exitcode == 0


def _serve(program, where, pipe, prepare):
  """Calls a program with each tuple of flags."""
  _enter(where)
  from absl import flags as absl_flags

  module = importlib.import_module(f'mjx_crossq.launch.{program}')
  envs.load = functools.cache(envs.load)  # random flags name a few tasks often
  if prepare:
    prepare(module)
  while (given := pipe.recv()) is not None:
    absl_flags.FLAGS.unparse_flags()
    for name in absl_flags.FLAGS:
      absl_flags.FLAGS[name].unparse()
    sys.argv = ['program', *given]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
      try:
        module.run()
        code = 0
      except SystemExit as stop:
        code = stop.code or 0
      except BaseException as error:
        code = repr(error)
    pipe.send((code, out.getvalue(), err.getvalue()))


def check_errors(program, cases, prepare=None):
  """Each tuple of flags must be refused in one line that has the text."""
  with called(program, prepare=prepare) as call:
    for args, message in cases.items():
      code, output, errors = call(*args)
      assert code == 2, (args, code, errors)
      assert errors.startswith('error: '), (args, errors)
      assert errors.count('\n') == 1, (args, errors)
      assert message in errors, (args, errors)
      assert 'compiling' not in output
