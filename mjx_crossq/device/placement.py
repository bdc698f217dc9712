"""Which device holds which seeds; chosen once, by `runner.placement_of`.

    OneDevice         all seeds on one device
    SeedsOverDevices  whole seeds on each of several devices
    SeedOverDevices   one seed divided over several (`data_parallel.py`)

The first is also the interface. What a run computes is written for one seed;
a placement makes of it the program of all seeds, and knows where their arrays
are. Checkpoints are the same for all three.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

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


def over(
  num_seeds: int,
  devices: Sequence[Any] | None = None,
  platform: str | None = None,
) -> 'OneDevice | SeedsOverDevices':
  """Seeds on as few devices as give the smallest number of seeds on each.

  Args:
    num_seeds: of the run.
    devices: that may be used; None for the default device alone.
    platform: of the programs; None for that of the devices.
  """
  devices = tuple(devices or jax.devices()[:1])
  seeds_each = -(-num_seeds // len(devices))
  used = devices[: -(-num_seeds // seeds_each)]
  if len(used) == 1:
    return OneDevice(num_seeds, used[0], platform)
  return SeedsOverDevices(num_seeds, used, seeds_each, platform)


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
      return _map(lambda axis: None if axis is COUNTER else axis, tree)

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


class SeedsOverDevices(OneDevice):
  """Whole seeds on each of several devices, which exchange nothing.

  A device computes `vmap` over its own seeds. Where seeds do not divide evenly
  the last device also holds copies of the last seed, with the same key and
  hence the same numbers. They cost memory; `without_copies` and checkpoints
  leave them out.

  Attributes:
    seeds_each: rows of a device.
  """

  def __init__(
    self,
    num_seeds: int,
    devices: Sequence[Any],
    seeds_each: int,
    platform: str | None = None,
  ):
    """Moves nothing yet.

    Args:
      num_seeds: of the run.
      devices: several, all of which are used.
      seeds_each: rows of each.
      platform: of the programs; None for that of the devices.
    """
    super().__init__(num_seeds, devices[0], platform)
    self.devices = tuple(devices)
    self.seeds_each = seeds_each
    self.rows = seeds_each * len(self.devices)
    self._mesh = Mesh(np.array(self.devices), ('seed',))
    self._sharding = NamedSharding(self._mesh, P('seed'))

  def wrap(self, function: Callable[..., Any], in_axes: Any, out_axes: Any):
    """`function` of one seed as a program of each device."""
    batched = super().wrap(function, in_axes, out_axes)

    def shard(*args):
      args = _map(lambda a, x: x[0] if a is COUNTER else x, in_axes, args)
      result = batched(*args)
      return _map(lambda a, x: x[None] if a is COUNTER else x, out_axes, result)

    return jax.shard_map(
      shard,
      mesh=self._mesh,
      in_specs=_map(_spec, in_axes),
      out_specs=_map(_spec, out_axes),
      check_vma=False,  # `faults.any_seed` has a rule for `vmap` alone
    )

  def jit_options(self, in_axes: Any, out_axes: Any) -> dict[str, Any]:
    """The shardings of arguments and results."""

    def sharding(axis):
      return NamedSharding(self._mesh, _spec(axis))

    # Without `out_shardings` XLA may choose another one for an array that has
    # no elements, and the next call would be compiled again.
    return {
      'in_shardings': _map(sharding, in_axes),
      'out_shardings': _map(sharding, out_axes),
    }

  def place(self, tree: Any) -> Any:
    """Puts each seed, and the copies, on its device."""
    return jax.tree.map(self._put, tree)

  def _put(self, x: Any) -> jax.Array:
    """One leaf with its copies; the host makes a device's part at a time."""
    if x.shape[0] == self.rows:
      return jax.device_put(x, self._sharding)
    if _is_key(x):
      return jax.device_put(x[self._sources(0, self.rows)], self._sharding)
    host = np.asarray(x)

    def part(index):
      start, stop, _ = index[0].indices(self.rows)
      return host[self._sources(start, stop)]

    shape = (self.rows, *host.shape[1:])
    return jax.make_array_from_callback(shape, self._sharding, part)

  def _sources(self, start: int, stop: int) -> np.ndarray:
    """Which seed a row holds."""
    return np.minimum(np.arange(start, stop), self.num_seeds - 1)

  def without_copies(self, tree: Any) -> Any:
    """The rows of the seeds alone; on the host where there are others."""
    if self.rows == self.num_seeds:
      return tree

    def seeds(x):
      return (x if _is_key(x) else np.asarray(x))[: self.num_seeds]

    return jax.tree.map(seeds, tree)

  def seed(self, tree: Any, index: int) -> Any:
    """One seed's part of a placed tree, on that seed's device."""

    def pick(x):
      for shard in x.addressable_shards:
        start, stop, _ = shard.index[0].indices(self.rows)
        if start <= index < stop:
          return shard.data[index - start]
      raise ValueError(f'seed {index} is not on a device of this process')

    return jax.tree.map(pick, tree)

  def counter(self, iteration: Any) -> jax.Array:
    """The counter of each device, from one number."""
    counter = np.full(len(self.devices), iteration, np.int32)
    return jax.device_put(counter, self._sharding)

  def iteration_of(self, counter: jax.Array, index: int) -> int:
    """The iterations that a seed's device has done."""
    return int(np.asarray(counter)[index // self.seeds_each])

  def store(self, state: TrainState) -> TrainState:
    """The state without copies, with one counter."""
    counters = np.unique(np.asarray(state.iteration))
    if len(counters) > 1:
      raise ValueError(
        f'the devices have done different numbers of iterations: {counters}'
      )
    state = _convert(state, self.without_copies, jnp.int32(counters[0]))
    return self._without_padding(state)

  def restore(self, stored: TrainState) -> TrainState:
    """The inverse of `store`."""
    stored = self._with_padding(stored)
    return _convert(stored, self.place, self.counter(stored.iteration))

  def like(self, state: TrainState) -> TrainState:
    """Shapes as `store` has them; arrays of numpy where copies are missing."""
    counter = jax.ShapeDtypeStruct((), jnp.int32)
    unpadded = self._without_padding(state)
    like = _convert(state, self.like_tree, counter)
    if unpadded is state:
      return like
    replay = unpadded.replay[: self.num_seeds]
    return like.replace(replay=replay)  # pyright: ignore

  def like_tree(self, tree: Any) -> Any:
    """`like` of a tree without a counter."""
    if self.rows == self.num_seeds:
      return self.abstract(tree)

    def target(x):
      shape = (self.num_seeds, *x.shape[1:])
      if _is_key(x):
        return jax.ShapeDtypeStruct(shape, x.dtype)
      return np.empty(shape, x.dtype)

    return jax.tree.map(target, tree)

  def abstract(self, state: Any) -> Any:
    """The shapes of a placed tree with their shardings."""

    def shape(x):
      return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._sharding)

    return jax.tree.map(shape, state)


def _convert(state: TrainState, change: Any, counter: Any) -> TrainState:
  """`change` of all but the counter, which is replaced."""
  others = change(state.replace(iteration=None))  # pyright: ignore
  return others.replace(iteration=counter)


def _map(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
  """`function` of each axis and of what it stands for in the trees."""
  return jax.tree.map(function, axes, *trees, is_leaf=lambda a: a is None)


def _spec(axis: Any) -> P:
  return P() if axis is None else P('seed')


def _is_key(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
