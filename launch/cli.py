"""Functions of all programs: flags, errors in one line, loading."""

import functools
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from absl import app, flags, logging

import mjx_crossq
from mjx_crossq import envs
from mjx_crossq.envs import processes, runtime, settings
from mjx_crossq.errors import ConfigError, RunError
from mjx_crossq.host import preemption
from mjx_crossq.launch import cache_repair, path_flags

USAGE_ERROR = 2
RUN_ERROR = 1
GROUPS = ('paper', 'benchmarking', 'all')
"""Names that stand for several tasks, see `expand_tasks`."""
_RENDER_SECONDS = 600  # then a video is given up

_COMPILATION_CACHE = path_flags.define(
  'compilation_cache',
  None,
  "folder that keeps compiled programs (~/.cache/mjx_crossq/jax); '' for none",
)


def run(
  main: Callable[[], None],
  doc: str | None,
  prepare: Callable[[], None] | None = None,
) -> None:
  """Runs a program's `main` after its flags are parsed.

  A `ConfigError` or a `RunError` is printed as one line, without a traceback;
  the exit codes are 2 and 1.

  Args:
    main: the program; reads its flags.
    doc: printed by --help above the flags.
    prepare: called first, when neither JAX nor MuJoCo is imported yet.
  """
  # Modules and traced programs are many objects and hardly any garbage, which
  # Python would look for after every 700 of them.
  gc.set_threshold(50_000, 20, 20)

  def parse(argv: Sequence[str]) -> Sequence[str]:
    if '--help' in argv or '-h' in argv:
      print(f'{(doc or "").strip()}\n\nflags:')
      ours = [
        name
        for name in flags.FLAGS.flags_by_module_dict()
        if name.startswith('mjx_crossq.')
      ]
      for module in dict.fromkeys((main.__module__, *ours)):
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
    if not flags.FLAGS['verbosity'].present:
      # Otherwise orbax logs each step of saving a checkpoint.
      logging.set_verbosity(logging.ERROR)
    try:
      main()
    except ConfigError as error:
      fail(error)
    except RunError as error:
      fail(error, RUN_ERROR)
    except ValueError as error:
      if settings.refused_by_jax(error):  # such as JAX_ENABLE_X64=maybe
        fail(error)
      raise
    except (AssertionError, RuntimeError):
      if why := _why_jax_fails():
        fail(no_jax(why))
      raise

  app.run(call, flags_parser=parse)


def no_jax(why: str) -> str:
  """The message for JAX's error at its start.

  Args:
    why: the error.
  """
  chosen = os.environ.get('JAX_PLATFORMS')
  if not chosen:
    return f'JAX does not start here: {why}'
  return (
    f'JAX does not start with JAX_PLATFORMS={chosen}: {why}; unset it, or '
    'install what the device needs (CUDA: .[cuda], TPU: .[tpu])'
  )


def _why_jax_fails() -> str:
  """JAX's error at its start; '' if it starts."""
  import jax

  try:
    jax.local_devices()
  except (AssertionError, RuntimeError) as error:
    return str(error) or 'there is no such device'
  return ''


def run_jobs(main: Callable[[], None], doc: str | None) -> None:
  """`run` of a program that starts others; all signals stop it as ^C does.

  Args:
    main: the program.
    doc: printed by --help above the flags.
  """
  for number in preemption.signals():
    signal.signal(number, signal.default_int_handler)
  try:
    run(main, doc)
  except KeyboardInterrupt:
    print('\nstopped; the same command continues from the last checkpoints')
    sys.exit(130)


def fail(error: object, code: int = USAGE_ERROR) -> NoReturn:
  """Prints one line and exits; code 2 says that the input was wrong."""
  line = ' '.join(str(error).split())
  print(f'error: {line}', file=sys.stderr)
  sys.stdout.flush()
  sys.exit(code)


def on_accelerator() -> bool:
  """Whether JAX computes on something other than the CPU."""
  import jax

  return jax.default_backend() != 'cpu'


def compute_on_cpu() -> None:
  """Leaves the accelerators to other processes."""
  import jax

  jax.config.update('jax_platforms', 'cpu')


def use_compilation_cache() -> None:
  """Keeps compiled programs on the disk for later processes.

  The folder is that of `--compilation_cache`, or else of the environment
  variable `JAX_COMPILATION_CACHE_DIR`, or else one in the user's cache folder.
  An empty flag switches the cache off.

  Raises:
    ConfigError: the folder cannot be created.
  """
  import jax

  cache_repair.install()
  folder = _COMPILATION_CACHE.value
  if folder is None:
    folder = os.environ.get('JAX_COMPILATION_CACHE_DIR')
    if folder is None:
      base = os.environ.get('XDG_CACHE_HOME', '~/.cache')
      folder = os.path.join(base, 'mjx_crossq', 'jax')
    folder = os.path.expanduser(folder)  # a URL is for JAX to understand
  elif folder:
    try:
      os.makedirs(folder, exist_ok=True)
    except OSError as error:
      raise ConfigError(
        f'--compilation_cache={folder}: {error.strerror}; choose another folder'
      ) from None
  jax.config.update('jax_compilation_cache_dir', folder or None)


def devices(count: int | None) -> list[Any]:
  """The devices of this process that --devices asks for.

  Args:
    count: how many; None for all.

  Raises:
    ConfigError: there are fewer.
  """
  import jax

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
  """The flag `--compilation_cache` for a program that this one starts."""
  folder = _COMPILATION_CACHE.value
  return [] if folder is None else [f'--compilation_cache={folder}']


def render(workdir: Path) -> str:
  """Starts `launch.render`, on the CPU.

  It is a separate process because a broken OpenGL driver may crash it, and the
  finished run must not fail then.

  Args:
    workdir: folder of a finished run.

  Returns:
    The path of the GIF, or why there is none.
  """
  output = workdir / 'policy.gif'
  command = [
    sys.executable,
    '-m',
    'mjx_crossq.launch.render',
    f'--workdir={workdir}',
  ]
  command += [f'--output={output}', *cache_flags()]
  variables = processes.variables() | {'JAX_PLATFORMS': 'cpu'}
  # dm_control has set it in this process; the other one must choose itself.
  variables.pop('PYOPENGL_PLATFORM', None)
  try:
    with runtime.quiet():  # JAX warns when a process is forked
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
  """A task of `envs`; what `envs` refuses becomes a `ConfigError`.

  Args:
    task: its name.
    physics: the backend.
    allow_unfaithful: whether the task may differ from stock.

  Raises:
    ConfigError: there is no such task or backend, the task is not faithful, or
      a setting of jax is refused.
  """
  try:
    if ':' in task or task in envs.ALL_TASKS:  # others load nothing
      settings.check()
    return envs.load(task, allow_unfaithful, physics)
  except ValueError as error:
    raise ConfigError(error) from None


def load_policy(
  workdir: str, step: str | None, **changes: Any
) -> tuple[Any, Any, int]:
  """`policy.loading.load_policy` for a program with the flag --workdir.

  Args:
    workdir: folder of the run.
    step: env step of the checkpoint, or best; None for the newest.
    **changes: fields of the configuration to change.

  Returns:
    The runner, the policies of all seeds, their env step.

  Raises:
    ConfigError: there is no such run, checkpoint or environment.
  """
  if step is not None and step != 'best' and not step.isdigit():
    raise ConfigError(f'--step={step} is neither an env step nor best')
  number: Any = int(step) if step and step.isdigit() else step
  load = functools.partial(envs.load, allow_unfaithful=True)
  try:
    return mjx_crossq.load_policy(workdir, load, number, **changes)
  except ValueError as error:
    raise ConfigError(error) from None


def needed(flag: flags.FlagHolder) -> Any:
  """The value of a flag that must be given.

  Raises:
    ConfigError: it is not given.
  """
  if not flag.value:
    raise ConfigError(f'--{flag.name} is needed; --help describes it')
  return flag.value


def rows(runner: Any, seed: int | None) -> list[int]:
  """The row of a seed in a runner's arrays; all rows for None.

  Args:
    runner: of the run.
    seed: the value of --seed.

  Returns:
    Rows of the policies.

  Raises:
    ConfigError: the run has no such seed.
  """
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
  groups = {'paper': envs.PAPER_TASKS, 'all': envs.ALL_TASKS}
  for name in names:
    if name not in (*GROUPS, *envs.ALL_TASKS):
      raise ConfigError(f'{name!r} is neither a task nor one of {[*GROUPS]}')
  if 'benchmarking' in names:
    from mjx_crossq.envs import suite  # loads MuJoCo

    stock = suite.import_stock('')
    groups['benchmarking'] = tuple(map('-'.join, stock.BENCHMARKING))
  tasks = [task for name in names for task in groups.get(name, (name,))]
  return [task for task in dict.fromkeys(tasks) if task in envs.ALL_TASKS]
