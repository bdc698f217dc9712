"""Which device holds which seeds; chosen once, by `runner.placement_of`.

    OneDevice         all seeds on one device
    SeedsOverDevices  whole seeds on each of several (`seeds_over_devices.py`)
    SeedOverDevices   one seed divided over several (`data_parallel.py`)

The first is also the interface. What a run computes is written for one seed;
a placement makes of it the program of all seeds, and knows where their arrays
are. Checkpoints are the same for all three.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.device.layout import Layout
from mjx_crossq.device.trainer import Trainer, TrainState

COUNTER: Any = object()
"""The place of the iteration counter in `in_axes`: one number for the seeds of
a device."""

# Every leaf but the counter has the seeds as its first axis.
STATE = TrainState(
  agent=0,  # pyright: ignore
  rollout=0,  # pyright: ignore
  replay=0,  # pyright: ignore
  key=0,  # pyright: ignore
  iteration=COUNTER,
  frozen=0,  # pyright: ignore
  hyper=0,
)


class OneDevice:
  """All seeds on one device.

  Attributes:
    num_seeds: of the run.
    devices: those in use.
    rows: the first axis of the state's leaves: seeds, and copies of the last
      one where seeds do not divide evenly.
    layout: where the arrays of a single seed are.
  """

  _replay: Any = None

  def __init__(
    self,
    num_seeds: int,
    device: Any | None = None,
    platform: str | None = None,
  ):
    """Moves nothing yet.

    Args:
      num_seeds: of the run.
      device: which holds them; None for the default one.
      platform: of the programs; None for that of the device.
    """
    self.num_seeds = self.rows = num_seeds
    self.devices: tuple[Any, ...] = (device or jax.devices()[0],)
    self.layout = Layout(platform or self.devices[0].platform)

  # --------------------------------------------------------------- programs

  def prepare(self, trainer: Trainer) -> None:
    """Reads off the shapes of a seed's state, where they matter."""
    self._replay = trainer.replay

  def wrap(self, function: Callable[..., Any], in_axes: Any, out_axes: Any):
    """`function` of one seed as a function of all.

    Args:
      function: of one seed.
      in_axes: of its arguments as `vmap` takes them, or `COUNTER`.
      out_axes: of its results, likewise.
    """

    def axes(tree):
      return map_axes(lambda axis: None if axis is COUNTER else axis, tree)

    return jax.vmap(function, axes(in_axes), axes(out_axes))

  def jit_options(self, in_axes: Any, out_axes: Any) -> dict[str, Any]:
    """The arguments of `jit` that say where a wrapped function's arrays are."""
    del in_axes, out_axes
    return {}

  # ------------------------------------------------------------------ trees

  def place(self, tree: Any) -> Any:
    """Puts arrays of all seeds where they belong.

    Args:
      tree: leaves `(num_seeds, ...)`, or `(rows, ...)` already.

    Returns:
      The tree with leaves `(rows, ...)`.
    """
    if self.devices == (jax.devices()[0],):
      return tree
    return jax.device_put(tree, self.devices[0])

  def without_copies(self, tree: Any) -> Any:
    """The rows of the seeds alone, as arrays of numpy where there are others.

    Args:
      tree: leaves `(rows, ...)`.
    """
    return tree

  def seed(self, tree: Any, index: int) -> Any:
    """One seed's part of a placed tree, on that seed's device.

    Args:
      tree: leaves `(rows, ...)`.
      index: of the seed in the run.
    """
    return jax.tree.map(lambda x: x[index], tree)

  # ---------------------------------------------------------------- counter

  def counter(self, iteration: Any) -> jax.Array:
    """The counter of a state, from one number."""
    return self.place(jnp.int32(iteration))

  def iteration_of(self, counter: jax.Array, index: int) -> int:
    """The iterations that a seed has done, from the counter of a state."""
    del index
    return int(counter)

  # ------------------------------------------------------------ checkpoints

  def store(self, state: TrainState) -> TrainState:
    """A state as checkpoints hold it, whatever the devices.

    Args:
      state: all devices at one iteration.

    Returns:
      Leaves `(num_seeds, ...)`, the counter `()`.

    Raises:
      ValueError: the devices have done different numbers of iterations; call
        `Runner.train_chunk` again.
    """
    return self._without_padding(state)

  def restore(self, stored: TrainState) -> TrainState:
    """The inverse of `store`."""
    return self.place(self._with_padding(stored))

  def like(self, state: TrainState) -> TrainState:
    """What the arrays of a checkpoint are read into.

    Args:
      state: the shapes of a placed one.

    Returns:
      Shapes as `store` has them; arrays of numpy where the arrays must pass
      through the host.
    """
    return self._without_padding(state)

  def _without_padding(self, state: TrainState) -> TrainState:
    """A state, or its shapes, without the zeros that fill the replay's rows."""
    *rows, columns = state.replay.shape
    if not self._replay or columns == self._replay.values:
      return state
    values = self._replay.values
    if isinstance(state.replay, jax.ShapeDtypeStruct):
      replay = np.empty((*rows, values), np.float32)
    else:
      replay = np.asarray(state.replay)[..., :values]
    return state.replace(replay=replay)  # pyright: ignore

  def _with_padding(self, stored: TrainState) -> TrainState:
    """The inverse of `_without_padding` of a state."""
    if not self._replay or stored.replay.shape[-1] == self._replay.row_size:
      return stored
    padding = ((0, 0), (0, 0), (0, self._replay.row_size - self._replay.values))
    replay = np.pad(np.asarray(stored.replay), padding)
    return stored.replace(replay=replay)  # pyright: ignore

  def like_tree(self, tree: Any) -> Any:
    """`like` of a tree without a counter."""
    return tree

  def abstract(self, state: TrainState) -> TrainState:
    """The shapes of a placed state with their shardings."""
    return state


def map_axes(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
  """`function` of each axis and of what it stands for in the trees.

  Args:
    function: of an axis of `in_axes` or `out_axes`, and of a tree's leaf.
    axes: as `OneDevice.wrap` takes them.
    *trees: arguments or results of a wrapped function.
  """
  return jax.tree.map(function, axes, *trees, is_leaf=lambda a: a is None)
