"""The trained policies of a run, read from its checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax

from mjx_crossq import config as config_lib
from mjx_crossq.config import ConfigError
from mjx_crossq.device.runner import Runner
from mjx_crossq.envs import settings
from mjx_crossq.envs.base import Env
from mjx_crossq.host import integrity
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.host.workdir import checkpoint_rows
from mjx_crossq.learner.states import Network
from mjx_crossq.paths import local


def load_policy(
  workdir: str | Path,
  load_env: Callable[..., Env],
  step: int | Literal['best'] | None = None,
  report: Callable[[str], None] = print,
  **changes: Any,
) -> tuple[Runner, Network, int]:
  """Loads the policies of a run.

  Args:
    workdir: the folder of the run, or that of one variant of a run with
      `vary`, which is then loaded like a run.
    load_env: makes the environment from the task's name and `physics`:
      `envs.load`.
    step: env step of the checkpoint; None for the newest intact one; 'best' for
      the best policy that it holds (`config.keep_best`).
    report: receives a line about each damaged checkpoint.
    **changes: fields of the configuration to change, such as `eval_episodes`
      or `physics`.

  Returns:
    A runner whose `act(policy, obs)` and `evaluate(policy, step)` take the
    policies, the policies of all seeds, and their env step.

  Raises:
    ConfigError: if there is no such run or checkpoint, the run has variants,
      or a setting of jax is refused.
  """
  workdir = Path(local(workdir))
  if not (workdir / 'config.json').exists():
    raise ConfigError(f'{workdir} holds no run (no config.json)')
  config, _ = config_lib.load(workdir / 'config.json')
  folder, first = checkpoint_rows(workdir, config)
  config = config.replace(**changes)
  try:
    settings.check()  # before the environment is made
  except ValueError as error:
    raise ConfigError(error) from None
  runner = Runner(config, load_env(config.task, physics=config.physics))
  if not folder.exists():
    raise ConfigError(f'{workdir} holds no checkpoint yet')
  best = step == 'best'
  if step is None or best:
    part = 'best' if best else 'policy'
    step = integrity.newest_intact(folder, part, report)
    if step is None:
      raise ConfigError(f'{workdir} holds no checkpoint yet')
  elif step in integrity.saved(folder) and (
    wrong := integrity.fault(folder / str(step), 'policy')
  ):
    raise ConfigError(f'the checkpoint at env step {step} is damaged: {wrong}')
  step = int(step)
  like = runner.abstract_state().agent.actor.network
  with Checkpointer(folder, read_only=True) as checkpointer:
    if best:
      step, policy = checkpointer.restore_best(step, like)
    else:
      policy = checkpointer.restore_policy(step, like)
  rows = slice(first, first + config.num_seeds)
  return runner, jax.tree.map(lambda x: x[rows], policy), step
