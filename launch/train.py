"""Trains CrossQ with weight normalisation on a DeepMind Control task.

python -m launch.train --task=cheetah-run --num_seeds=10
"""

import contextlib
import functools
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq.launch import cli

_PRESET = flags.DEFINE_string(
  'preset',
  'crossq_wn',
  'crossq_wn, crossq_wn_no_target, crossq, crossq_512, sac, sac_resets, bro, '
  'xqc, or quickstart (small)',
)
# Flags that are fields of the configuration; unset ones keep the preset's.
_FIELDS = {
  'task': flags.DEFINE_string('task', None, 'task; see --list_tasks'),
  'physics': flags.DEFINE_enum(
    'physics', None, ['mjx', 'warp'], 'physics backend (mjx)'
  ),
  'num_seeds': flags.DEFINE_integer(
    'num_seeds', None, 'seeds trained in one program'
  ),
  'seed': flags.DEFINE_integer('seed', None, 'the first of these seeds'),
  'num_envs': flags.DEFINE_integer(
    'num_envs', None, 'environments per seed (1)'
  ),
  'env_steps': flags.DEFINE_integer(
    'env_steps', None, 'budget per seed in env steps (1,000,000)'
  ),
  'utd': flags.DEFINE_integer('utd', None, 'updates per decision (10)'),
  'action_repeat': flags.DEFINE_integer(
    'action_repeat', None, 'env steps per decision (2)'
  ),
  'matmul_precision': flags.DEFINE_enum(
    'matmul_precision',
    None,
    ['highest', 'tf32', 'bf16'],
    'matrix products of the networks (tf32, where the device has it)',
  ),
  'eval_every': flags.DEFINE_integer(
    'eval_every', None, 'env steps between evaluations; 0: only at the end'
  ),
  'eval_episodes': flags.DEFINE_integer(
    'eval_episodes', None, 'episodes per evaluation (10)'
  ),
  'log_every': flags.DEFINE_integer(
    'log_every', None, 'env steps between log points'
  ),
  'checkpoint_every': flags.DEFINE_integer(
    'checkpoint_every', None, 'env steps between checkpoints; 0: at the end'
  ),
  'diagnostics_every': flags.DEFINE_integer(
    'diagnostics_every', None, 'env steps between diagnoses; 0: none (0)'
  ),
  'vary': flags.DEFINE_multi_string(
    'vary', None, 'field=value,value,... to train in one program; repeatable'
  ),
  'pbt_every': flags.DEFINE_integer(
    'pbt_every', None, 'env steps between steps of PBT on these; 0: none (0)'
  ),
}
_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'folder of the run (runs/<task>-<preset>-<seed>-<time>)'
)
_RESUME = flags.DEFINE_bool(
  'resume', False, 'go on from the newest checkpoint in --workdir, if any'
)
_DEVICES = flags.DEFINE_integer(
  'devices', None, 'devices that the seeds are spread over (all)', 1
)
_DATA_PARALLEL = flags.DEFINE_bool(
  'data_parallel', False, 'divide one seed over the devices, batch and replay'
)
_SET = flags.DEFINE_multi_string(
  'set', [], 'key=value for any field that --dry_run prints; repeatable'
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
_DEBUG_NANS = flags.DEFINE_bool(
  'debug_nans', False, 'name the operation that gives the first NaN; slow'
)
_DETERMINISTIC = flags.DEFINE_bool(
  'deterministic', False, 'the same bits from the same flags on a GPU; slower'
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'share the seeds with other processes',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator', None, 'host:port of process 0, where jax does not find it'
)
_NUM_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'of a distributed run, likewise', 1
)
_PROCESS_ID = flags.DEFINE_integer(
  'process_id', None, 'index of this process, likewise', 0
)
_HEARTBEAT_TIMEOUT = flags.DEFINE_integer(
  'heartbeat_timeout', 30, 'seconds after which a silent host is lost', 10
)
_START_TIMEOUT = flags.DEFINE_integer(
  'start_timeout', 300, 'seconds to wait for the other processes', 1
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


def main() -> None:
  """Reads the flags and trains."""
  from mjx_crossq import envs

  if _LIST_TASKS.value:
    print('\n'.join(envs.ALL_TASKS))
    return
  if _DISTRIBUTED.value and not _DRY_RUN.value:
    with _joined() as job:  # before jax starts on a device
      _main(job)
  else:
    _main(None)


def _main(job: Any) -> None:
  """Trains, alone or as one of the processes of a `launch.hosts.Hosts`."""
  from mjx_crossq import config as config_lib
  from mjx_crossq.envs import runtime
  from mjx_crossq.launch import preview

  if _DETERMINISTIC.value:
    runtime.make_deterministic()
  config = _config()
  if _DETERMINISTIC.value and config.physics == 'warp':
    raise config_lib.ConfigError(
      '--deterministic: Warp adds in no fixed order; take --physics=mjx'
    )
  env = cli.load_env(
    config.task, config.physics, allow_unfaithful=_ALLOW_UNFAITHFUL.value
  )
  if _RESUME.value and not _WORKDIR.value:
    raise config_lib.ConfigError('--resume needs the --workdir of the run')

  devices = cli.devices(_DEVICES.value)
  if _DRY_RUN.value:
    preview.dry_run(config, env, devices, _DATA_PARALLEL.value)
    return
  from mjx_crossq import vary
  from mjx_crossq.host import progress
  from mjx_crossq.host import run as loop
  from mjx_crossq.host.preemption import Preemption

  cli.use_compilation_cache()
  start = time.monotonic()
  workdir = Path(_WORKDIR.value or _default_workdir(config))
  whole, everything, report = config, workdir, _report
  with contextlib.ExitStack() as stack:
    if job:
      if whole.vary:
        raise config_lib.ConfigError(
          '--distributed divides seeds, not --vary; run it without the latter, '
          'or each value by launch.sweep'
        )
      job.agree(whole)
      config = job.block(whole)
      report = job.reporter(_report, everything)
      workdir = stack.enter_context(
        job.shared(everything, whole, _RESUME.value)
      )
    followers = _followers(workdir, config)
    bar = progress.Bar(config.env_steps)
    for shown in (bar, *followers):
      stack.enter_context(contextlib.closing(shown))

    def follow(step):
      for shown in (bar, *followers):
        shown(step)

    preview.announce(config, devices, _DATA_PARALLEL.value, report)
    with Preemption() as preemption:
      loop.train(
        config,
        env,
        workdir=workdir,
        resume=_RESUME.value,
        report=report,
        preemption=preemption,
        debug_nans=_DEBUG_NANS.value,
        follow=follow,
        devices=devices,
        data_parallel=_DATA_PARALLEL.value,
      )
      if job:
        preemption.save_by(lambda: None)
        job.finish(everything, whole)
    bar.close()
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    report(f'finished in {minutes}:{seconds:02d}')
    for folder in vary.folders(everything, config):
      report(f'learning curve: {folder / "learning_curve.png"}')
    if not job or job.process == 0:
      _render(workdir, config, followers)
    report(f'run directory:  {everything}')


def _joined() -> Any:
  """This process among those of a distributed run."""
  from mjx_crossq.config import ConfigError
  from mjx_crossq.launch import hosts

  if not _WORKDIR.value:
    raise ConfigError('--distributed needs the --workdir that all share')
  return hosts.joined(
    coordinator=_COORDINATOR.value,
    num_processes=_NUM_PROCESSES.value,
    process_id=_PROCESS_ID.value,
    heartbeat_timeout=_HEARTBEAT_TIMEOUT.value,
    start_timeout=_START_TIMEOUT.value,
  )


def _render(workdir: Path, config: Any, followers: Sequence[Any]) -> None:
  """Makes the GIF, if one is wanted, and shows it to the trackers."""
  wanted = _RENDER.value
  if wanted is None:
    wanted = config.preset == 'quickstart' and not config.vary
  if not wanted:
    return
  from mjx_crossq import vary

  for index, folder in enumerate(vary.folders(workdir, config)):
    video = cli.render(folder)
    _report(f'video:          {video}')
    own = followers[index : index + 1] if config.vary else followers
    for follower in own if Path(video).is_file() else ():
      follower.video(Path(video), config.env_steps)


def _config() -> Any:
  """The preset changed by --set and by the flags that were given."""
  from mjx_crossq import config as config_lib

  changes = config_lib.parse_assignments(_SET.value)
  for name, flag in _FIELDS.items():
    if flag.value is None:
      continue
    value = tuple(flag.value) if name == 'vary' else flag.value
    if changes.get(name, value) != value:
      raise config_lib.ConfigError(
        f'--{name}={value} contradicts --set {name}={changes[name]}'
      )
    changes[name] = value
  config = config_lib.from_preset(_PRESET.value, **changes)
  if _PRESET.value == 'quickstart' and cli.on_accelerator():
    config = config_lib.from_preset('quickstart', accelerator=True, **changes)
  return config


def _followers(workdir: Path, config: Any) -> list[Any]:
  """The trackers asked for."""
  from mjx_crossq import vary
  from mjx_crossq.config import ConfigError
  from mjx_crossq.host import trackers

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
    if config.vary:
      raise ConfigError(
        '--wandb follows one run, and --vary makes several; take --tensorboard'
      )
    trackers.check_wandb(_WANDB_MODE.value)
    sink = functools.partial(
      trackers.WandB,
      project=_WANDB.value,
      group=_WANDB_GROUP.value,
      mode=_WANDB_MODE.value,
    )
    found.append(trackers.Follower(workdir, config, sink, _report))
  return found


def _default_workdir(config: Any) -> str:
  stamp = time.strftime('%Y%m%d-%H%M%S')
  task = config.task.replace(':', '-')
  return f'runs/{task}-{config.preset}-seed{config.seed}-{stamp}'


def _report(line: str) -> None:
  # Whoever reads the output may go; the run stays.
  with contextlib.suppress(BrokenPipeError):
    if sys.stderr.isatty():  # in place of the bar, which comes again
      print('\r\x1b[K', end='', file=sys.stderr, flush=True)
    print(line, flush=True)


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
