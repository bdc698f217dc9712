"""What the programs share: flags, and errors in one line with exit code 2."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

USAGE_ERROR = 2
RUN_ERROR = 1
_RENDER_SECONDS = 600  # then a video is given up

_COMPILATION_CACHE = flags.DEFINE_string(
  'compilation_cache',
  None,
  "folder that keeps compiled programs (~/.cache/mjx_crossq/jax); '' for none",
)


class RunError(RuntimeError):
  """A run that cannot go on; the message says what to do."""


def run(
  main: Callable[[], None],
  doc: str | None,
  prepare: Callable[[], None] | None = None,
) -> None:
  """Runs a program's `main` after its flags are parsed.

  A `ValueError` of ours (`ConfigError` and what `envs` raises for unknown
  tasks) is the user's to mend: it is printed as one line.

  Args:
    main: the program; reads its flags.
    doc: printed by --help above the flags.
    prepare: called first, when neither JAX nor MuJoCo is imported yet.
  """

  def parse(argv: Sequence[str]) -> Sequence[str]:
    if '--help' in argv or '-h' in argv:
      print(f'{(doc or "").strip()}\n\nflags:')
      for module in (main.__module__, __name__):
        print(flags.FLAGS.module_help(sys.modules[module]))
      sys.exit(0)
    try:
      rest = flags.FLAGS(list(argv))
    except flags.Error as error:
      fail(error)
    except RecursionError:  # absl looks for the nearest name
      fail('a flag of this length is unknown; see --help')
    if len(rest) > 1:
      fail(f'unexpected argument {rest[1]!r}; flags are written --name=value')
    return rest

  def call(_: Sequence[str]) -> None:
    if prepare:
      prepare()
    from mjx_crossq.config import ConfigError
    from mjx_crossq.device.budget import OutOfMemoryError
    from mjx_crossq.errors import WriteError

    if not flags.FLAGS['verbosity'].present:
      logging.set_verbosity(logging.ERROR)  # orbax tells its life otherwise
    try:
      main()
    except ConfigError as error:
      fail(error)
    except (WriteError, OutOfMemoryError, RunError) as error:
      fail(error, RUN_ERROR)

  app.run(call, flags_parser=parse)


def run_jobs(main: Callable[[], None], doc: str | None) -> None:
  """`run` of a program that starts others; SIGTERM stops it as ^C does.

  Args:
    main: the program.
    doc: printed by --help above the flags.
  """
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  try:
    run(main, doc)
  except KeyboardInterrupt:
    print('\nstopped; the same command goes on from the last checkpoints')
    sys.exit(130)


def fail(error: object, code: int = USAGE_ERROR) -> NoReturn:
  """Prints one line and exits; code 2 says that the input is to be mended."""
  line = ' '.join(str(error).split())
  print(f'error: {line}', file=sys.stderr)
  sys.stdout.flush()
  sys.exit(code)


def on_accelerator() -> bool:
  """Whether JAX computes on something other than the CPU."""
  import jax

  return jax.default_backend() != 'cpu'


def use_compilation_cache() -> None:
  """Keeps compiled programs between processes, unless the user decided.

  `--compilation_cache`, or else `JAX_COMPILATION_CACHE_DIR`, chooses the
  folder; empty, it switches the cache off.

  Raises:
    ConfigError: the folder cannot be made.
  """
  import jax

  from mjx_crossq.config import ConfigError

  folder = _COMPILATION_CACHE.value
  if folder is None:
    if 'JAX_COMPILATION_CACHE_DIR' in os.environ:
      return
    base = os.environ.get('XDG_CACHE_HOME', os.path.expanduser('~/.cache'))
    folder = os.path.join(base, 'mjx_crossq', 'jax')
  elif folder:
    try:
      os.makedirs(folder, exist_ok=True)
    except OSError as error:
      raise ConfigError(
        f'--compilation_cache={folder}: {error.strerror}; choose another folder'
      ) from None
  jax.config.update('jax_compilation_cache_dir', folder or None)


def devices(count: int | None) -> list[Any]:
  """Devices of this process, as --devices asks for them.

  Args:
    count: how many; None for all.

  Raises:
    ConfigError: there are fewer.
  """
  import jax

  from mjx_crossq.config import ConfigError

  found = jax.local_devices()
  if count is not None and count > len(found):
    more = ''
    if found[0].platform == 'cpu':
      flag = f'--xla_force_host_platform_device_count={count}'
      more = f', or divide the CPU by XLA_FLAGS={flag}'
    raise ConfigError(
      f'--devices={count}, but there is {len(found)} of {found[0].platform}; '
      f'leave it out{more}'
    )
  return found[:count]


def cache_flags() -> list[str]:
  """`--compilation_cache` as it was given, for a program that is started."""
  folder = _COMPILATION_CACHE.value
  return [] if folder is None else [f'--compilation_cache={folder}']


def render(workdir: Path) -> str:
  """Starts `launch.render`, on the CPU.

  In a process of its own a broken OpenGL driver ends nothing but the video: the
  run is finished, and stays so.

  Args:
    workdir: folder of a finished run.

  Returns:
    The path of the GIF, or why there is none.
  """
  from mjx_crossq.envs import runtime

  output = workdir / 'policy.gif'
  command = [
    sys.executable,
    '-m',
    'mjx_crossq.launch.render',
    f'--workdir={workdir}',
  ]
  command += [f'--output={output}', *cache_flags()]
  variables = {**os.environ, 'JAX_PLATFORMS': 'cpu'}
  # dm_control has set it here for the backend that it found first.
  variables.pop('PYOPENGL_PLATFORM', None)
  try:
    with runtime.quiet():  # JAX warns of any process that is started
      done = subprocess.run(
        command,
        env=variables,
        capture_output=True,
        text=True,
        errors='replace',
        timeout=_RENDER_SECONDS,
        check=False,
      )
  except (OSError, subprocess.SubprocessError) as error:
    return f'none ({error})'
  except KeyboardInterrupt:
    return 'none (interrupted)'
  if done.returncode == 0:
    return str(output)
  *_, line = ['no message', *filter(None, done.stderr.splitlines())]
  return f'none ({line.removeprefix("error: ")})'


def load_env(task: str, physics: str, *, allow_unfaithful: bool) -> Any:
  """A task of `envs`; what it refuses is the user's to mend.

  Args:
    task: its name.
    physics: the backend.
    allow_unfaithful: whether to take one that is marked as different.

  Raises:
    ConfigError: there is no such task or backend, or it is marked.
  """
  from mjx_crossq import envs
  from mjx_crossq.config import ConfigError

  try:
    return envs.load(task, allow_unfaithful, physics)
  except ValueError as error:
    raise ConfigError(error) from None


def load_policy(
  workdir: str | None, step: int | None, **changes: Any
) -> tuple[Any, Any, int]:
  """`policy.loading.load_policy` for a program with the flag --workdir.

  Args:
    workdir: folder of the run.
    step: env step of the checkpoint; None for the newest.
    **changes: fields of the configuration to change.

  Returns:
    The runner, the policies of all seeds, their env step.

  Raises:
    ConfigError: there is no such run, checkpoint or environment.
  """
  from mjx_crossq import envs
  from mjx_crossq.config import ConfigError
  from mjx_crossq.policy import loading

  if not workdir:
    raise ConfigError('--workdir is needed')
  load = functools.partial(envs.load, allow_unfaithful=True)
  try:
    return loading.load_policy(workdir, load, step, **changes)
  except ValueError as error:
    raise ConfigError(error) from None


def rows(runner: Any, seed: int | None) -> list[int]:
  """Where a seed is among a runner's; all of them for None.

  Args:
    runner: of the run.
    seed: as --seed has it.

  Returns:
    Rows of the policies.

  Raises:
    ConfigError: the run has no such seed.
  """
  from mjx_crossq.config import ConfigError

  if seed is None:
    return list(range(len(runner.seeds)))
  if seed not in runner.seeds:
    known = ', '.join(map(str, runner.seeds))
    raise ConfigError(f'--seed={seed} is not in the run; there are: {known}')
  return [runner.seeds.index(seed)]


def expand_tasks(names: Sequence[str]) -> list[str]:
  """Task names, with groups replaced by their tasks.

  Args:
    names: tasks, or 'paper', 'benchmarking', 'all'.

  Returns:
    Names of registered tasks, without repetition.

  Raises:
    ConfigError: a name is neither.
  """
  from mjx_crossq import envs
  from mjx_crossq.config import ConfigError
  from mjx_crossq.envs import suite

  stock = suite.import_stock('')
  groups = {
    'paper': envs.PAPER_TASKS,
    'benchmarking': tuple('-'.join(pair) for pair in stock.BENCHMARKING),
    'all': envs.ALL_TASKS,
  }
  tasks: dict[str, None] = {}
  for name in names:
    if name not in groups and name not in envs.ALL_TASKS:
      raise ConfigError(f'{name!r} is neither a task nor one of {[*groups]}')
    group = groups.get(name, (name,))
    tasks |= dict.fromkeys(t for t in group if t in envs.ALL_TASKS)
  return list(tasks)
