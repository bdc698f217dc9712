"""Writes the replay of a run to a file, and reads a file into a replay.

A file is an `.npz` with a row for each transition. The rows of an environment
are in the order of time, and the environments follow each other:

    obs            s, float32 (transitions, observation_size)
    action         a in [-1, 1], float32 (transitions, action_size)
    reward         summed over the action repeat, float32 (transitions,)
    mask           0 where the episode truly terminated, else 1, float32
    next_obs       the true next observation s', also at an episode's end
    episode_start  whether an episode begins, or the transition before is not in
                   the file, bool
    meta           JSON: task, seed, env step, action repeat
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq import config as config_lib
from mjx_crossq import envs
from mjx_crossq.atomic import replacing
from mjx_crossq.config import Config, ConfigError
from mjx_crossq.device.rollout import Rollout
from mjx_crossq.device.runner import Runner
from mjx_crossq.envs.base import Env
from mjx_crossq.host import integrity
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.learner.states import Transition

_FIELDS = ('obs', 'action', 'reward', 'mask', 'next_obs')


def export(
  run: str | Path,
  output: str | Path | None = None,
  *,
  step: int | None = None,
  seed: int | None = None,
) -> Path:
  """Writes the replay of one seed of a run.

  Args:
    run: folder of the run.
    output: the file; None for `replay-seed<seed>-step<step>.npz` in the folder.
    step: env step of the checkpoint; None for the newest intact one.
    seed: of the run; None for its first.

  Returns:
    The file.

  Raises:
    ConfigError: there is no such run, checkpoint or seed.
    WriteError: the file cannot be written.
  """
  run = Path(run)
  config, _ = config_lib.load(run / 'config.json')
  folder = run / 'checkpoints'
  known = list(range(config.seed, config.seed + config.num_seeds))
  seed = config.seed if seed is None else seed
  if seed not in known or config.vary:
    raise ConfigError(
      f'{run}: no replay of seed {seed}; it has the seeds {known[0]} to '
      f'{known[-1]}, and must not have variants'
    )
  step = integrity.newest_intact(folder) if step is None else step
  if step is None or step not in integrity.saved(folder):
    raise ConfigError(f'{run} holds no checkpoint at env step {step}')
  env = envs.load(config.task, allow_unfaithful=True, physics=config.physics)
  runner = Runner(config, env)
  with Checkpointer(folder, read_only=True) as checkpointer:
    state = checkpointer.restore(step, runner.abstract_state())
  replay = runner.trainer.replay
  rows = np.asarray(state.replay)[known.index(seed)]
  transitions, times = replay.in_order(rows, runner.iteration(state))
  arrays: dict[str, Any] = {
    name: getattr(transitions, name) for name in _FIELDS
  }
  starts = _starts(transitions, times, runner.trainer.rollout)
  arrays = {
    name: x.swapaxes(0, 1).reshape(-1, *x.shape[2:])
    for name, x in (arrays | {'episode_start': starts}).items()
  }
  meta = {
    'task': config.task,
    'seed': seed,
    'env_step': step,
    'action_repeat': config.action_repeat,
  }
  path = Path(output or run / f'replay-seed{seed}-step{step}.npz')
  with replacing(path) as draft, draft.open('wb') as file:
    np.savez(file, meta=np.array(json.dumps(meta)), **arrays)
  return path


def load(path: str | Path, env: Env, config: Config) -> Transition:
  """Reads transitions with which a replay may begin.

  Args:
    path: of the file.
    env: of the run.
    config: of the run.

  Returns:
    Transitions with leaves `(transitions, ...)`, float32.

  Raises:
    ConfigError: the file is not one of transitions, or does not fit the
      environment or the replay.
  """
  size: Any = env.observation_size
  sizes = {
    'obs': (size,),
    'action': (env.action_size,),
    'reward': (),
    'mask': (),
    'next_obs': (size,),
  }
  try:
    with np.load(path, allow_pickle=False) as stored:
      arrays = {name: stored[name] for name in _FIELDS}
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
    raise ConfigError(
      f'--init_replay={path} is no intact file of transitions ({error}); make '
      'it by mjx_crossq.datasets.export'
    ) from None
  count = len(arrays['mask']) if arrays['mask'].ndim else 0
  for name, x in arrays.items():
    if x.shape != (count, *sizes[name]) or x.dtype != np.float32 or not count:
      raise ConfigError(
        f'--init_replay={path}: {name} is {x.dtype}{list(x.shape)}; of '
        f'{env.name} it must be float32{[count or "transitions", *sizes[name]]}'
      )
  beyond = np.abs(arrays['action']).max() > 1
  flags = np.isin(arrays['mask'], (0, 1)).all()
  finite = all(np.isfinite(x).all() for x in arrays.values())
  if beyond or not flags or not finite:
    raise ConfigError(
      f'--init_replay={path}: numbers must be finite, actions in [-1, 1], and '
      'masks 0 or 1'
    )
  if count > config.replay_rows or count % config.num_envs:
    raise ConfigError(
      f'--init_replay={path} has {count:,} transitions; the replay holds '
      f'{config.replay_rows:,} (replay_capacity), in multiples of num_envs='
      f'{config.num_envs}'
    )
  return Transition(**arrays)


def _starts(
  transitions: Transition, times: np.ndarray, rollout: Rollout
) -> np.ndarray:
  """Where an episode begins, bool `(times, num_envs)`."""
  t = transitions
  starts = np.ones(t.mask.shape, bool)
  broken = np.any(t.obs[1:] != t.next_obs[:-1], axis=-1)
  starts[1:] = broken | (t.mask[:-1] == 0)
  if not rollout.env.terminates:
    taken = times[:, None] * rollout.action_repeat
    clock = (taken + rollout.offsets) % rollout.env.episode_length == 0
    starts |= (clock & (taken >= 0)) | (taken == 0)
  return starts
