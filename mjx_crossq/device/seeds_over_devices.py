"""Whole seeds on each of several devices."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mjx_crossq.device.placement import COUNTER, OneDevice, map_axes
from mjx_crossq.device.trainer import TrainState


def place_seeds(
  num_seeds: int,
  devices: Sequence[Any] | None = None,
  platform: str | None = None,
) -> OneDevice:
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
      args = map_axes(lambda a, x: x[0] if a is COUNTER else x, in_axes, args)
      result = batched(*args)
      return map_axes(
        lambda a, x: x[None] if a is COUNTER else x, out_axes, result
      )

    return jax.shard_map(
      shard,
      mesh=self._mesh,
      in_specs=map_axes(_spec, in_axes),
      out_specs=map_axes(_spec, out_axes),
      check_vma=False,  # `faults.any_seed` has a rule for `vmap` alone
    )

  def jit_options(self, in_axes: Any, out_axes: Any) -> dict[str, Any]:
    """The shardings of arguments and results."""

    def sharding(axis):
      return NamedSharding(self._mesh, _spec(axis))

    # Without `out_shardings` XLA may choose another one for an array that has
    # no elements, and the next call would be compiled again.
    return {
      'in_shardings': map_axes(sharding, in_axes),
      'out_shardings': map_axes(sharding, out_axes),
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


def _spec(axis: Any) -> P:
  return P() if axis is None else P('seed')


def _is_key(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
