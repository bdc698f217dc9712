"""Where the seeds of a run live: on one device, or spread over several.

Each device holds whole seeds and talks to no other, so what it computes is the
program of `vmap` over its own seeds. Where seeds do not divide evenly the last
device also holds copies of the last seed: the same key, hence the same numbers.
They fill memory, and nobody sees them: `trim` takes them away, and checkpoints
hold none. With one device nothing is wrapped and nothing is moved.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mjx_crossq import vary
from mjx_crossq.config import Config
from mjx_crossq.device.layout import Layout
from mjx_crossq.device.trainer import Trainer, TrainState

COUNTER: Any = object()
"""Where `in_axes` has the iteration counter: shared by a device's seeds, and
one number for each device."""

# Every leaf but the counter has the seeds in front.
STATE = TrainState(
  agent=0,  # pyright: ignore
  rollout=0,  # pyright: ignore
  replay=0,  # pyright: ignore
  key=0,  # pyright: ignore
  iteration=COUNTER,
  frozen=0,  # pyright: ignore
  hyper=0,
)


def of(config: Config, devices: Sequence[Any] | None = None) -> 'Placement':
  """Where a run's seeds live, those of all variants.

  Args:
    config: the configuration.
    devices: as `Placement` takes them.
  """
  return Placement(len(vary.rows(config)), devices)


class Placement:
  """Seeds on devices.

  Attributes:
    num_seeds: of the run.
    devices: those in use, of which each holds `seeds_each`.
    seeds_each: seeds of a device, copies included.
    rows: the first axis of the state's leaves: seeds and copies.
    layout: what a seed's own program says about devices: nothing.
  """

  layout = Layout()

  def __init__(self, num_seeds: int, devices: Sequence[Any] | None = None):
    """Decides how many seeds a device holds.

    Args:
      num_seeds: of the run.
      devices: to take; no more are used than needed for the least seeds on
        each. None for the default device alone.
    """
    every = tuple(devices or jax.devices()[:1])
    self.num_seeds = num_seeds
    self.seeds_each = -(-num_seeds // len(every))
    self.devices = every[: -(-num_seeds // self.seeds_each)]
    self.rows = self.seeds_each * len(self.devices)
    self._mesh = Mesh(np.array(self.devices), ('seed',))

  @property
  def many(self) -> bool:
    """Whether there is more than one device."""
    return len(self.devices) > 1

  # --------------------------------------------------------------- programs

  def prepare(self, trainer: Trainer) -> None:
    """Learns what a seed's state looks like, where that matters."""

  def wrap(self, function: Callable[..., Any], in_axes: Any, out_axes: Any):
    """`function` of one seed as a function of all.

    Args:
      function: of one seed.
      in_axes: of its arguments as `vmap` takes them, or `COUNTER`.
      out_axes: of its results, likewise.
    """
    batched = self.batched(function, in_axes, out_axes)
    if not self.many:
      return batched

    def shard(*args):
      args = _map(lambda a, x: x[0] if a is COUNTER else x, in_axes, args)
      result = batched(*args)
      return _map(lambda a, x: x[None] if a is COUNTER else x, out_axes, result)

    return jax.shard_map(
      shard,
      mesh=self._mesh,
      in_specs=_map(_spec, in_axes),
      out_specs=_map(_spec, out_axes),
      check_vma=False,  # `faults.anywhere` has a rule for `vmap` alone
    )

  @staticmethod
  def batched(function: Callable[..., Any], in_axes: Any, out_axes: Any):
    """`vmap` with such axes."""
    return jax.vmap(function, _vmapped(in_axes), _vmapped(out_axes))

  def jit_options(self, in_axes: Any, out_axes: Any) -> dict[str, Any]:
    """What `jit` is to be told about a wrapped function's devices."""
    if not self.many:
      return {}

    def sharding(axis):
      return NamedSharding(self._mesh, _spec(axis))

    # Of the results too: XLA has its own mind about arrays without elements.
    return {
      'in_shardings': _map(sharding, in_axes),
      'out_shardings': _map(sharding, out_axes),
    }

  # ------------------------------------------------------------------ trees

  def place(self, tree: Any) -> Any:
    """Puts arrays of all seeds where they belong.

    Args:
      tree: leaves `(num_seeds, ...)`, or `(rows, ...)` already.

    Returns:
      The tree with leaves `(rows, ...)`.
    """
    if not self.many:
      return self._to_one(tree)
    return jax.tree.map(self._put, tree)

  def _to_one(self, tree: Any) -> Any:
    if self.devices == (jax.devices()[0],):
      return tree
    return jax.device_put(tree, self.devices[0])

  def _put(self, x: Any) -> jax.Array:
    """One leaf, with its copies; on the host no more than a device's part."""
    sharding = NamedSharding(self._mesh, P('seed'))
    if x.shape[0] == self.rows:
      return jax.device_put(x, sharding)
    if _is_key(x):
      return jax.device_put(x[self._sources(0, self.rows)], sharding)
    host = np.asarray(x)

    def part(index):
      start, stop, _ = index[0].indices(self.rows)
      return host[self._sources(start, stop)]

    shape = (self.rows, *host.shape[1:])
    return jax.make_array_from_callback(shape, sharding, part)

  def _sources(self, start: int, stop: int) -> np.ndarray:
    """Which seed a row holds."""
    return np.minimum(np.arange(start, stop), self.num_seeds - 1)

  def trim(self, tree: Any) -> Any:
    """The seeds without copies: on the host where there are any."""
    if self.rows == self.num_seeds:
      return tree

    def trimmed(x):
      return (x if _is_key(x) else np.asarray(x))[: self.num_seeds]

    return jax.tree.map(trimmed, tree)

  def one(self, tree: Any, index: int) -> Any:
    """One seed's part of a placed tree, on that seed's device.

    Args:
      tree: leaves `(rows, ...)`.
      index: of the seed in the run.
    """
    if not self.many:
      return jax.tree.map(lambda x: x[index], tree)

    def pick(x):
      for shard in x.addressable_shards:
        start, stop, _ = shard.index[0].indices(self.rows)
        if start <= index < stop:
          return shard.data[index - start]
      raise ValueError(f'seed {index} is not on a device of this process')

    return jax.tree.map(pick, tree)

  # ---------------------------------------------------------------- counter

  def spread(self, iteration: Any) -> jax.Array:
    """The counter of a state, from one number."""
    if not self.many:
      return self._to_one(jnp.int32(iteration))
    counter = np.full(len(self.devices), iteration, np.int32)
    return jax.device_put(counter, NamedSharding(self._mesh, P('seed')))

  def iteration_of(self, counter: jax.Array, index: int) -> int:
    """The iterations that a seed has done, from the counter of a state."""
    return int(np.ravel(counter)[index // self.seeds_each if self.many else 0])

  # ------------------------------------------------------------ checkpoints

  def store(self, state: TrainState) -> TrainState:
    """A state as checkpoints hold it, whatever the devices.

    Args:
      state: all devices at one iteration.

    Returns:
      Leaves `(num_seeds, ...)`, the counter `()`.

    Raises:
      ValueError: the devices are apart; call `Runner.train_chunk` again.
    """
    if not self.many:
      return state
    counters = np.unique(np.asarray(state.iteration))
    if len(counters) > 1:
      raise ValueError(f'the devices are apart: iterations {counters}')
    return self._apart(state, self.trim, jnp.int32(counters[0]))

  def restore(self, stored: TrainState) -> TrainState:
    """The inverse of `store`."""
    if not self.many:
      return self._to_one(stored)
    return self._apart(stored, self.place, self.spread(stored.iteration))

  def like(self, state: TrainState) -> TrainState:
    """What the arrays of a checkpoint are read into.

    Args:
      state: the shapes of a placed one.

    Returns:
      Shapes as `store` has them; arrays of numpy where the host is to have
      the seeds, because their copies are still to be made.
    """
    if not self.many:
      return state
    counter = jax.ShapeDtypeStruct((), jnp.int32)
    return self._apart(state, self.like_tree, counter)

  def like_tree(self, tree: Any) -> Any:
    """`like` of a tree without a counter."""

    def shape(x):
      if self.rows != self.num_seeds:
        shape = (self.num_seeds, *x.shape[1:])
        if _is_key(x):
          return jax.ShapeDtypeStruct(shape, x.dtype)
        return np.empty(shape, x.dtype)
      return self._shape(x)

    return jax.tree.map(shape, tree) if self.many else tree

  def abstract(self, state: TrainState) -> TrainState:
    """The shapes of a placed state with their shardings."""
    return jax.tree.map(self._shape, state) if self.many else state

  def _shape(self, x: Any) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(self._mesh, P('seed'))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

  @staticmethod
  def _apart(state: TrainState, change: Any, counter: Any) -> TrainState:
    """`change` of all but the counter."""
    rest = change(state.replace(iteration=None))  # pyright: ignore
    return rest.replace(iteration=counter)


def _map(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
  """`function` of each axis and what it stands for in the trees."""
  return jax.tree.map(function, axes, *trees, is_leaf=lambda a: a is None)


def _vmapped(axes: Any) -> Any:
  return _map(lambda axis: None if axis is COUNTER else axis, axes)


def _spec(axis: Any) -> P:
  return P() if axis is None else P('seed')


def _is_key(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
