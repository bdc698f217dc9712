"""The trained policies of a run, read from its checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from mjx_crossq import config as config_lib
from mjx_crossq import vary
from mjx_crossq.config import ConfigError
from mjx_crossq.device.runner import Runner
from mjx_crossq.envs import settings
from mjx_crossq.envs.base import Env
from mjx_crossq.host import integrity
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.learner.states import Network
from mjx_crossq.paths import local


def load_policy(
  workdir: str | Path,
  load_env: Callable[..., Env],
  step: int | None = None,
  report: Callable[[str], None] = print,
  **changes: Any,
) -> tuple[Runner, Network, int]:
  """Loads the policies of a run.

  Args:
    workdir: the folder of the run, or that of one variant of a run with
      `vary`, which is then loaded like a run.
    load_env: makes the environment from the task's name and `physics`:
      `envs.load`.
    step: env step of the checkpoint; None for the newest intact one.
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
  if config.vary:
    first, *_ = vary.folders(workdir, config)
    raise ConfigError(
      f'{workdir} has variants; take the folder of one of them, such as {first}'
    )
  config = config.replace(**changes)
  try:
    settings.check()  # before the environment is made
  except ValueError as error:
    raise ConfigError(error) from None
  env = load_env(config.task, physics=config.physics)
  runner, folder = Runner(config, env), workdir / 'checkpoints'
  trained, rows = runner, slice(None)
  if parent := vary.parent(workdir):
    folder = parent / 'checkpoints'
    all_variants, _ = config_lib.load(parent / 'config.json')
    trained = Runner(all_variants.replace(**changes), env)
    names = [path.name for path in vary.folders(parent, all_variants)]
    first = names.index(workdir.resolve().name) * config.num_seeds
    rows = slice(first, first + config.num_seeds)
  if not folder.exists():
    raise ConfigError(f'{workdir} holds no checkpoint yet')
  if step is None:
    step = integrity.newest_intact(folder, 'policy', report)
    if step is None:
      raise ConfigError(f'{workdir} holds no checkpoint yet')
  elif step in integrity.saved(folder) and (
    wrong := integrity.fault(folder / str(step), 'policy')
  ):
    raise ConfigError(f'the checkpoint at env step {step} is damaged: {wrong}')
  with Checkpointer(folder, read_only=True) as checkpointer:
    like = trained.abstract_state().agent.actor.network
    policy = checkpointer.restore_policy(step, like)
  return runner, jax.tree.map(lambda x: x[rows], policy), step
