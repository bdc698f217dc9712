"""ONE seed over several devices, for large batches or many environments.

The program is that of one device, and XLA partitions it (GSPMD): the state's
arrays come with shardings, the loop says where its large arrays are, and XLA
adds the communication. So the numbers mean what they mean on one device; the
batch statistics of the joint pass, sums over the rows, are over all devices.

    parameters, optimisers  a copy on each device
    batch                   its rows divided
    replay                  its columns divided, so that adding and gathering
                            rows is local; only drawn rows are sent
    environments            divided where `num_envs` allows it
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from mjx_crossq.config import Config
from mjx_crossq.device.layout import Layout, columns
from mjx_crossq.device.placement import STATE, OneDevice
from mjx_crossq.device.trainer import Trainer, TrainState
from mjx_crossq.envs import prng
from mjx_crossq.errors import ConfigError
from mjx_crossq.learner.states import AgentState, Transition

_COLUMNS = P(None, 'data')
_ROWS = P('data')


def check(config: Config, count: int) -> None:
  """Refuses what cannot be divided over a number of devices.

  Raises:
    ConfigError: there are several seeds, or the batch cannot be divided.
  """
  if config.num_seeds != 1 or config.vary:
    raise ConfigError(
      f'data_parallel is for one seed, not for num_seeds={config.num_seeds}, '
      f'vary={config.vary}; without it the seeds are distributed over the '
      'devices'
    )
  if config.batch_size % count:
    raise ConfigError(
      f'batch_size={config.batch_size} cannot be divided over {count} '
      'devices; change it, or take other --devices'
    )


class DataLayout(Layout):
  """Where the arrays of the one seed are."""

  def __init__(self, mesh: Mesh, num_envs: int):
    """Takes the devices.

    Args:
      mesh: its one axis is `data`.
      num_envs: environments of the seed.
    """
    self.columns = mesh.size * columns(mesh.devices.flat[0].platform)
    self._mesh = mesh
    self._num_envs = num_envs

  def replay(self, buffer: jax.Array) -> jax.Array:
    """Columns divided."""
    return self._constrain(buffer, _COLUMNS)

  def batch(self, batch: Transition) -> Transition:
    """Rows divided; a copy on each device where they do not divide evenly."""

    def divide(x):
      return self._constrain(
        x, _ROWS if x.shape[0] % self._mesh.size == 0 else P()
      )

    return jax.tree.map(divide, batch)

  def rollout(self, state: Any) -> Any:
    """Environments divided where they divide evenly."""

    def divide(x):
      return self._constrain(x, self.rollout_spec(x))

    return jax.tree.map(divide, state)

  def agent(self, agent: AgentState) -> AgentState:
    """A copy on each device."""
    return jax.tree.map(lambda x: self._constrain(x, P()), agent)

  def rollout_spec(self, x: Any) -> P:
    """How a leaf of a `RolloutState` is divided.

    Args:
      x: the leaf or its shape; the moments of the returns are not divided.
    """
    envs = x.shape[:1] == (self._num_envs,)
    return _ROWS if envs and self._num_envs % self._mesh.size == 0 else P()

  def _constrain(self, x: jax.Array, spec: P) -> jax.Array:
    return jax.lax.with_sharding_constraint(x, NamedSharding(self._mesh, spec))


class SeedOverDevices(OneDevice):
  """One seed, divided by its data."""

  layout: DataLayout

  def __init__(self, config: Config, devices: Sequence[Any]):
    """Moves nothing yet.

    Args:
      config: the configuration, which `check` has accepted.
      devices: several, all of which are used.
    """
    super().__init__(1, devices[0])
    self.devices = tuple(devices)
    self._mesh = Mesh(np.array(self.devices), ('data',))
    self._copies = NamedSharding(self._mesh, P())
    self.layout = DataLayout(self._mesh, config.num_envs)

  def prepare(self, trainer: Trainer) -> None:
    """Decides how each leaf of the state is divided."""
    super().prepare(trainer)
    key = jax.eval_shape(prng.key, 0)
    state = jax.eval_shape(trainer.init, key)
    whole = jax.tree.map(lambda _: P(), state)
    rollout = jax.tree.map(self.layout.rollout_spec, state.rollout)
    specs = whole.replace(replay=_COLUMNS, rollout=rollout)
    self._shardings = jax.tree.map(
      lambda spec: NamedSharding(self._mesh, P(None, *spec)), specs
    )
    self._shardings = self._shardings.replace(iteration=self._copies)

  def jit_options(self, in_axes: Any, out_axes: Any) -> dict[str, Any]:
    """Results are where `place` and `restore` put them."""
    del in_axes

    def sharding(axis):
      return self._shardings if axis is STATE else self._copies

    return {
      'out_shardings': jax.tree.map(
        sharding, out_axes, is_leaf=lambda a: a is STATE
      )
    }

  def place(self, tree: Any) -> Any:
    """A copy on each device."""
    return jax.device_put(tree, self._copies)

  def restore(self, stored: TrainState) -> TrainState:
    """The inverse of `store`."""
    return jax.device_put(self._with_padding(stored), self._shardings)

  def abstract(self, state: TrainState) -> TrainState:
    """The shapes of a placed state with their shardings."""
    return jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      state,
      self._shardings,
    )
