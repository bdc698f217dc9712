"""Trains CrossQ with weight normalisation on a DeepMind Control task.

python -m launch.train --task=cheetah-run --num_seeds=10
"""

import contextlib
import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

import mjx_crossq
from mjx_crossq import envs, vary
from mjx_crossq.config import Config
from mjx_crossq.envs import runtime
from mjx_crossq.errors import ConfigError
from mjx_crossq.host import progress, trackers
from mjx_crossq.host.preemption import Preemption
from mjx_crossq.launch import cli, config_flags, path_flags
from mjx_crossq.launch.bench import targets

_WORKDIR = path_flags.define(
  'workdir', None, 'folder of the run (runs/<task>-<preset>-<seed>-<time>)'
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'go on from the newest checkpoint in --workdir, if any'
)
_INIT_REPLAY = path_flags.define(
  'init_replay',
  None,
  'file of transitions with which each replay begins (datasets.export)',
)
_INIT_FROM = path_flags.define(
  'init_from',
  None,
  'run, or RUN@STEP, whose networks the agents begin with (--init_parts)',
)
_DEVICES = flags.DEFINE_integer(
  'devices',
  None,
  'devices that the seeds are spread over: accelerators, or cores (all)',
  1,
)
_DATA_PARALLEL = flags.DEFINE_bool(
  'data_parallel', False, 'divide one seed over the devices, batch and replay'
)
_TENSORBOARD = flags.DEFINE_bool(
  'tensorboard', False, 'mirror the series in tensorboard/ of the workdir'
)
_WANDB = flags.DEFINE_string(
  'wandb', None, 'mirror the series in this project of Weights & Biases'
)
_WANDB_GROUP = flags.DEFINE_string('wandb_group', None, 'group of runs there')
_WANDB_MODE = flags.DEFINE_enum(
  'wandb_mode',
  'online',
  ['online', 'offline'],
  'offline keeps all in the workdir, for `wandb sync`',
)
_EVAL_ASYNC = flags.DEFINE_bool(
  'eval_async',
  None,
  'play the stock episodes in other processes while training goes on (on, '
  'except on a CPU)',
)
_DEBUG_NANS = flags.DEFINE_bool(
  'debug_nans', False, 'name the operation that gives the first NaN; slow'
)
_DETERMINISTIC = flags.DEFINE_bool(
  'deterministic', False, 'the same bits from the same flags on a GPU; slower'
)
_ALLOW_UNFAITHFUL = flags.DEFINE_bool(
  'allow_unfaithful', False, 'train on a task that differs from stock'
)
_RENDER = flags.DEFINE_bool(
  'render', None, 'end with a GIF of the policies (only with quickstart)'
)
_LIST_TASKS = flags.DEFINE_bool('list_tasks', False, 'print the tasks and stop')
_DRY_RUN = flags.DEFINE_bool(
  'dry_run', False, 'print configuration, sizes and memory, and stop'
)
_TARGET = flags.DEFINE_enum(
  'target',
  None,
  [name for name, target in targets.TARGETS.items() if target.memory],
  'dry_run: the memory of one such chip',
)


def main() -> None:
  """Reads the flags and trains."""
  if _LIST_TASKS.value:
    print('\n'.join(envs.ALL_TASKS))
    return
  config = _config(accelerator=False)
  if _RESUME.value and not _WORKDIR.value:
    raise ConfigError('--resume needs the --workdir of the run')
  if _WANDB.value and config.vary:
    raise ConfigError(
      '--wandb follows one run, and --vary makes several; take --tensorboard'
    )
  if _TARGET.value and not _DRY_RUN.value:
    raise ConfigError('--target is for --dry_run; add that flag')
  if _DETERMINISTIC.value:
    if config.physics == 'warp':
      raise ConfigError(
        '--deterministic: Warp adds in no fixed order; take --physics=mjx'
      )
    runtime.make_deterministic()
  whole = _DATA_PARALLEL.value or config.physics == 'warp'
  runtime.use_cores(_DEVICES.value or (1 if whole else len(vary.rows(config))))
  # From here on JAX may start.
  if config.preset == 'quickstart' and cli.on_accelerator():
    config = _config(accelerator=True)
  env = cli.load_env(
    config.task, config.physics, allow_unfaithful=_ALLOW_UNFAITHFUL.value
  )
  devices = cli.devices(_DEVICES.value)
  # It loads JAX, and wrong flags are to be refused before that.
  from mjx_crossq import datasets
  from mjx_crossq.launch import preview

  transitions = None
  if _INIT_REPLAY.value:
    transitions = datasets.load(_INIT_REPLAY.value, env, config)
    config = config.replace(init_transitions=len(transitions.reward))
  if _DRY_RUN.value:
    target = targets.TARGETS[_TARGET.value] if _TARGET.value else None
    preview.dry_run(
      config,
      env,
      devices[:1] if target else devices,
      data_parallel=_DATA_PARALLEL.value,
      target=target,
    )
    return
  cli.use_compilation_cache()
  preview.announce(config, devices, _report, data_parallel=_DATA_PARALLEL.value)
  _train(config, env, devices, transitions)


def _config(*, accelerator: bool) -> Config:
  """The configuration that the flags give."""
  changes = {'init_from': _INIT_FROM.value} if _INIT_FROM.value else {}
  return config_flags.config(accelerator=accelerator, **changes)


def _train(
  config: Config, env: Any, devices: Sequence[Any], transitions: Any
) -> None:
  """Trains, shows how far it is, and says where the results are."""
  start = time.monotonic()
  workdir = Path(_WORKDIR.value or _default_workdir(config))
  with contextlib.ExitStack() as stack:
    followers = _followers(workdir, config)
    bar = progress.Bar(config.env_steps)
    for shown in (bar, *followers):
      stack.enter_context(contextlib.closing(shown))

    def follow(step):
      for shown in (bar, *followers):
        shown(step)

    with Preemption() as preemption:
      mjx_crossq.train(
        config,
        env,
        workdir=workdir,
        resume=_RESUME.value,
        report=_report,
        preemption=preemption,
        debug_nans=_DEBUG_NANS.value,
        follow=follow,
        devices=devices,
        data_parallel=_DATA_PARALLEL.value,
        transitions=transitions,
        eval_async=(
          cli.on_accelerator()
          if _EVAL_ASYNC.value is None
          else _EVAL_ASYNC.value
        ),
      )
    bar.close()
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    _report(f'finished in {minutes}:{seconds:02d}')
    for folder in vary.folders(workdir, config):
      _report(f'learning curve: {folder / "learning_curve.png"}')
    _render(workdir, config, followers)
    _report(f'run directory:  {workdir}')


def _render(workdir: Path, config: Config, followers: Sequence[Any]) -> None:
  """Makes the GIF, if one is wanted, and shows it to the trackers."""
  wanted = _RENDER.value
  if wanted is None:
    wanted = config.preset == 'quickstart' and not config.vary
  if not wanted:
    return
  for index, folder in enumerate(vary.folders(workdir, config)):
    video = cli.render(folder)
    _report(f'video:          {video}')
    own = followers[index : index + 1] if config.vary else followers
    for follower in own if Path(video).is_file() else ():
      follower.video(Path(video), config.env_steps)


def _followers(workdir: Path, config: Config) -> list[Any]:
  """The trackers asked for."""
  found: list[Any] = []
  if _TENSORBOARD.value:
    sink = trackers.TensorBoard
    pairs = zip(
      vary.folders(workdir, config), vary.variants(config), strict=True
    )
    found += [
      trackers.Follower(folder, variant.config, sink, _report)
      for folder, variant in pairs
    ]
  if _WANDB.value:
    trackers.check_wandb(_WANDB_MODE.value)
    sink = functools.partial(
      trackers.WandB,
      project=_WANDB.value,
      group=_WANDB_GROUP.value,
      mode=_WANDB_MODE.value,
    )
    found.append(trackers.Follower(workdir, config, sink, _report))
  return found


def _default_workdir(config: Config) -> str:
  stamp = time.strftime('%Y%m%d-%H%M%S')
  task = config.task.replace(':', '-')
  return f'runs/{task}-{config.preset}-seed{config.seed}-{stamp}'


def _report(line: str) -> None:
  """Prints a line; the run goes on even if nobody reads its output."""
  try:
    if sys.stderr.isatty():  # over the bar, which is drawn again
      print('\r\x1b[K', end='', file=sys.stderr, flush=True)
    print(line, flush=True)
  except OSError:  # a closed pipe or terminal; the rest goes nowhere
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
