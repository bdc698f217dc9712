"""Checkpoints with orbax: everything a run needs, or the policy alone.

A checkpoint is named by its env step and holds one item for each part of the
`TrainState`, so that the policy can be read without the replay. When all of it
is on disk, the checksums of its files are written beside them; files that do
not agree with them are never read.
"""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from mjx_crossq.config import ConfigError
from mjx_crossq.device.placement import OneDevice
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.errors import WriteError
from mjx_crossq.host import integrity
from mjx_crossq.host.items import (
  Best,
  from_dict,
  read_best,
  read_item,
  to_dict,
)
from mjx_crossq.learner.agent import Metrics
from mjx_crossq.learner.states import Network

_ITEMS = (
  *('policy', 'agent', 'rollout', 'replay', 'loop', 'sums'),
  *('best', 'pending'),
)


class Checkpointer:
  """Saves asynchronously, keeps the newest checkpoints, restores exactly.

  It is a context manager: leaving it waits until everything is on disk.
  """

  def __init__(
    self,
    directory: Path,
    *,
    keep: int = 3,
    read_only: bool = False,
    placement: OneDevice | None = None,
  ):
    """Opens or creates a folder of checkpoints.

    Args:
      directory: the folder.
      keep: how many checkpoints are kept.
      read_only: change nothing, not even files that a killed process left.
      placement: of the states that are saved and restored; the files do not
        depend on it. None for the default device.
    """
    self._directory = directory.resolve()
    self._placement = placement or OneDevice(1)
    self._finishing: threading.Thread | None = None
    self._error: BaseException | None = None
    self._lock = threading.RLock()  # a preempted run saves from a thread
    self._saving = 0
    self._manager = ocp.CheckpointManager(
      self._directory,
      options=ocp.CheckpointManagerOptions(
        max_to_keep=None if read_only else keep,
        create=not read_only,
        cleanup_tmp_directories=not read_only,
        read_only=read_only,
        lightweight_initialize=True,
      ),
      item_names=_ITEMS,
    )

  def __enter__(self) -> 'Checkpointer':
    """Returns itself."""
    return self

  def __exit__(self, kind: Any, *_: Any) -> None:
    """Waits for saves in progress and closes.

    Raises:
      WriteError: the last save failed, unless another error is being raised.
    """
    try:
      self.wait()
    except WriteError:
      if kind is None:
        raise
    finally:
      # After a failed save, orbax would raise its error again here.
      if self._error is None:
        self._manager.close()

  def steps(self) -> list[int]:
    """Env steps of the complete checkpoints, oldest first."""
    return sorted(self._manager.all_steps())

  def save(
    self,
    step: int,
    state: TrainState,
    sums: Metrics | None = None,
    elapsed: float = 0.0,
    *,
    best: Best | None = None,
    pending: Mapping[int, Network] | None = None,
  ) -> None:
    """Starts to save the state; returns once it may be donated.

    Args:
      step: its env step.
      state: all seeds.
      sums: of the metrics since the last log point; None if there are none.
      elapsed: seconds that the run has taken.
      best: the best policy so far, if it is kept.
      pending: policies by the env step of evaluations that are not finished.

    Raises:
      WriteError: this save, or the one before, failed.
    """
    with self._lock:
      self.wait()
      self._start(step, state, sums, elapsed, best, pending or {})

  def replace(self, step: int, *args: Any, **kwargs: Any) -> None:
    """`save` of an env step that has a checkpoint already."""
    with self._lock:
      self.wait()
      self._manager.delete(step)
      self.save(step, *args, **kwargs)

  def _start(
    self,
    step: int,
    state: TrainState,
    sums: Metrics | None,
    elapsed: float,
    best: Best | None,
    pending: Mapping[int, Network],
  ) -> None:
    state = self._placement.store(state)
    items = {
      'policy': state.agent.actor.network,
      'agent': state.agent,
      'rollout': state.rollout,
      'replay': state.replay,
      'loop': _loop(state),
      'sums': self._placement.without_copies(sums or {}),
      'best': best.policy if best else {},
      'pending': {str(number): policy for number, policy in pending.items()},
    }
    metadata = {
      'format': integrity.FORMAT,
      'elapsed_seconds': elapsed,
    }
    if best:
      metadata['best'] = {'env_step': best.step, 'return': best.score}
    self._saving = step
    try:
      self._manager.save(
        step,
        args=ocp.args.Composite(
          **{
            name: ocp.args.StandardSave(to_dict(item))
            for name, item in items.items()
            if not isinstance(item, dict) or item
          }
        ),
        custom_metadata=metadata,
      )
    except Exception as error:
      self._error = error
      self.wait()
    self._finishing = threading.Thread(target=self._finish, args=(step,))
    self._finishing.start()

  def wait(self) -> None:
    """Waits until the last save is on disk, checksums included.

    Raises:
      WriteError: it failed.
    """
    with self._lock:
      if self._finishing:
        self._finishing.join()
        self._finishing = None
    if self._error:
      line = ' '.join(str(self._error).split())
      if 'No space left' in line:  # tensorstore's message is very long
        line = 'No space left on device'
      known = [
        step for step in integrity.saved(self._directory) if step < self._saving
      ]
      # Of each array that was not written asyncio logs a traceback at the exit.
      logging.getLogger('asyncio').setLevel(logging.CRITICAL)
      raise WriteError(
        f'cannot save the checkpoint of env step {self._saving} in '
        f'{self._directory}: {line[:300]}; '
        + (f'that of {max(known)} is intact; ' if known else '')
        + 'make room and go on with --resume'
      ) from self._error

  def _finish(self, step: int) -> None:
    """Writes the checksums as soon as the checkpoint is on disk."""
    try:
      self._manager.wait_until_finished()
      integrity.seal(self._directory / str(step))
    except BaseException as error:
      self._error = error

  def restore(self, step: int, like: TrainState) -> TrainState:
    """Reads all of a state.

    Args:
      step: env step of the checkpoint.
      like: shapes and types, as `Runner.abstract_state` gives them.

    Returns:
      The state, placed.
    """
    like = self._placement.like(like)
    items = self._restore(
      step,
      agent=like.agent,
      rollout=like.rollout,
      replay=like.replay,
      loop=_loop(like),
    )
    loop = items.pop('loop')
    return self._placement.restore(TrainState(**items, **loop))

  def elapsed(self, step: int) -> float:
    """Seconds that the run had taken at a checkpoint; 0 if not recorded."""
    found: Any = self._manager.metadata(step)
    return float(found.custom_metadata.get('elapsed_seconds', 0.0))

  def restore_sums(self, step: int, like: Metrics) -> Metrics | None:
    """Reads the sums of metrics since the last log point, if there are any.

    Args:
      step: env step of the checkpoint.
      like: the names, shapes and types.

    Returns:
      The sums. Counts that an older version did not have yet are as in `like`.
    """
    folder = self._directory / str(step) / 'sums'
    if not folder.exists():
      return None
    self._check_known(step)
    names = read_item(folder).keys()
    stored = {name: x for name, x in like.items() if name in names}
    stored = self._placement.like_tree(stored)
    sums = self._placement.place(self._restore(step, sums=stored)['sums'])
    return {name: sums.get(name, x) for name, x in like.items()}

  def restore_evaluations(
    self, step: int, like: Network
  ) -> tuple[Best | None, dict[int, Network]]:
    """Reads what the evaluations had come to.

    Args:
      step: env step of the checkpoint.
      like: the shapes of the actors of all seeds.

    Returns:
      The best policy, if it is kept, and policies by the env step of
      evaluations that were not finished.
    """
    folder = self._directory / str(step)
    best, pending = None, {}
    if (folder / 'best').is_dir():
      number, score = read_best(folder)
      best = Best(number, score, from_dict(read_item(folder / 'best'), like))
    if (folder / 'pending').is_dir():
      stored = read_item(folder / 'pending')
      for number in sorted({int(path.split('.')[0]) for path in stored}):
        pending[number] = from_dict(stored, like, f'{number}.')
    return best, pending

  def restore_policy(self, step: int, like: Network) -> Network:
    """Reads the actors of all seeds, and no other item.

    Args:
      step: env step of the checkpoint.
      like: the shapes of the actors of any number of seeds.

    Returns:
      The actors of those that the checkpoint has.
    """
    self._check_known(step)
    stored = read_item(self._directory / str(step) / 'policy')
    shapes = {path: x.shape[1:] for path, x in to_dict(like).items()}
    if shapes != {path: x.shape[1:] for path, x in stored.items()}:
      raise self._of_another_version(step)
    return jax.tree.map(jnp.asarray, from_dict(stored, like))

  def restore_best(self, step: int, like: Network) -> tuple[int, Network]:
    """Reads the best policy that a checkpoint holds.

    Args:
      step: env step of the checkpoint.
      like: the shapes of the actors.

    Returns:
      Its env step, and the actors of all seeds.

    Raises:
      ConfigError: the run keeps none.
    """
    best, _ = self.restore_evaluations(step, like)
    if best is None:
      raise ConfigError(
        f'the checkpoint at env step {step} in {self._directory} has no best '
        'policy: train with --keep_best, or go on with it'
      )
    return best.step, jax.tree.map(jnp.asarray, best.policy)

  def _restore(self, step: int, **like: Any) -> Any:
    self._check_known(step)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def target(x):
      if isinstance(x, np.ndarray):
        return x
      place = getattr(x, 'sharding', None) or device
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

    shapes = jax.tree.map(target, like)
    items = {
      name: ocp.args.StandardRestore(to_dict(item))
      for name, item in shapes.items()
    }
    try:
      stored = self._manager.restore(step, args=ocp.args.Composite(**items))
      found = {name: from_dict(stored[name], like[name]) for name in like}
      if _types(found) != _types(like):  # keys of another implementation
        raise ValueError('other types')
    except (KeyError, ValueError) as error:
      raise self._of_another_version(step) from error
    return found

  def _check_known(self, step: int) -> None:
    known = self.steps()
    if step not in known:
      raise ConfigError(
        f'no checkpoint at env step {step} in {self._manager.directory}; '
        f'there are: {", ".join(map(str, known)) or "none"}'
      )

  def _of_another_version(self, step: int) -> ConfigError:
    return ConfigError(
      f'the checkpoint at env step {step} in {self._directory} does not fit '
      'this version of mjx_crossq: take the one that config.json names, or '
      'start again in another --workdir'
    )


def _loop(state: TrainState) -> dict[str, Any]:
  """The small parts of a state, which share one item."""
  loop = {name: getattr(state, name) for name in ('key', 'iteration', 'frozen')}
  return {**loop, 'hyper': state.hyper} if state.hyper else loop


def _types(tree: Any) -> list[Any]:
  return [x.dtype for x in jax.tree.leaves(tree)]
