"""Checkpoints with orbax: everything a run needs, or the policy alone.

A checkpoint is named by its env step and holds one item for each part of the
`TrainState`, so that the policy can be read without the replay.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from envs.base import Env
from mjx_crossq import config as config_lib
from mjx_crossq.config import ConfigError
from mjx_crossq.runner import Runner
from mjx_crossq.states import Network
from mjx_crossq.trainer import TrainState

_ITEMS = ('policy', 'agent', 'rollout', 'replay', 'loop')


class Checkpointer:
  """Saves asynchronously, keeps the newest ones, restores exactly.

  Use it as a context manager: leaving it waits until all is on disk.
  """

  def __init__(self, directory: Path, keep: int = 3):
    """Opens or creates a folder of checkpoints.

    Args:
      directory: the folder.
      keep: how many checkpoints stay.
    """
    self._manager = ocp.CheckpointManager(
      directory.resolve(),
      options=ocp.CheckpointManagerOptions(max_to_keep=keep, create=True),
      item_names=_ITEMS,
    )

  def __enter__(self) -> 'Checkpointer':
    """Returns itself."""
    return self

  def __exit__(self, *_: Any) -> None:
    """Waits for saves in progress and closes."""
    self._manager.wait_until_finished()
    self._manager.close()

  def steps(self) -> list[int]:
    """Env steps of the complete checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def save(self, step: int, state: TrainState) -> None:
    """Starts to save the state; returns once it may be donated."""
    items = {
      'policy': state.agent.actor.network,
      'agent': state.agent,
      'rollout': state.rollout,
      'replay': state.replay,
      'loop': {'key': state.key, 'iteration': state.iteration},
    }
    self._manager.save(
      step,
      args=ocp.args.Composite(
        **{
          name: ocp.args.StandardSave(_to_dict(item))
          for name, item in items.items()
        }
      ),
    )

  def restore(self, step: int, like: TrainState) -> TrainState:
    """Reads a whole state.

    Args:
      step: env step of the checkpoint.
      like: shapes and types, as `Runner.abstract_state` gives them.

    Returns:
      The state, on the default device.
    """
    items = self._restore(
      step,
      agent=like.agent,
      rollout=like.rollout,
      replay=like.replay,
      loop={'key': like.key, 'iteration': like.iteration},
    )
    return TrainState(
      agent=items['agent'],
      rollout=items['rollout'],
      replay=items['replay'],
      key=items['loop']['key'],
      iteration=items['loop']['iteration'],
    )

  def restore_policy(self, step: int, like: Network) -> Network:
    """Reads the actors of all seeds; the replay is not touched."""
    return self._restore(step, policy=like)['policy']

  def _restore(self, step: int, **like: Any) -> Any:
    known = self.steps()
    if step not in known:
      raise ConfigError(
        f'no checkpoint at env step {step} in {self._manager.directory}; '
        f'there are: {", ".join(map(str, known)) or "none"}'
      )
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), like
    )
    stored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        **{
          name: ocp.args.StandardRestore(_to_dict(item))
          for name, item in shapes.items()
        }
      ),
    )
    return {name: _from_dict(stored[name], like[name]) for name in like}


def _to_dict(tree: Any) -> dict[str, Any]:
  """The leaves of a tree by their path; orbax stores no empty arrays."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {_name(path): leaf for path, leaf in leaves if leaf.size}


def _from_dict(stored: Mapping[str, Any], like: Any) -> Any:
  """The inverse of `_to_dict`, for a tree like the one that was stored."""

  def leaf(path, x):
    return stored[_name(path)] if x.size else jnp.zeros(x.shape, x.dtype)

  return jax.tree_util.tree_map_with_path(leaf, like)


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='.') or 'array'


def load_policy(
  workdir: str | Path,
  load_env: Callable[..., Env],
  step: int | None = None,
  **changes: Any,
) -> tuple[Runner, Network, int]:
  """Loads the policies of a run.

  Args:
    workdir: the folder of the run.
    load_env: makes the environment from the task's name and `physics`:
      `envs.load`.
    step: env step of the checkpoint; None for the newest.
    **changes: fields of the configuration to change, such as `eval_episodes`
      or `physics`.

  Returns:
    A runner whose `act(policy, obs)` and `evaluate(policy, step)` take the
    policies, the policies of all seeds, and their env step.

  Raises:
    ConfigError: if there is no such run or checkpoint.
  """
  workdir = Path(workdir)
  if not (workdir / 'config.json').exists():
    raise ConfigError(f'{workdir} holds no run (no config.json)')
  config, _ = config_lib.load(workdir / 'config.json')
  config = config.replace(**changes)
  runner = Runner(config, load_env(config.task, physics=config.physics))
  folder = workdir / 'checkpoints'
  if not folder.exists():
    raise ConfigError(f'{workdir} holds no checkpoint yet')
  with Checkpointer(folder) as checkpointer:
    steps = checkpointer.steps()
    if not steps:
      raise ConfigError(f'{workdir} holds no checkpoint yet')
    step = steps[-1] if step is None else step
    like = runner.abstract_state().agent.actor.network
    return runner, checkpointer.restore_policy(step, like), step
