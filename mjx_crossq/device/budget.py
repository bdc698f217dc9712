"""The memory that a run needs, known before anything is compiled."""

import contextlib
import ctypes
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mjx_crossq.device.trainer import TrainState
from mjx_crossq.errors import ConfigError, OutOfMemoryError

_MIB = 2**20


@contextlib.contextmanager
def advice_when_out_of_memory() -> Iterator[None]:
  """Says what to lower when the device or the host has no memory left.

  Raises:
    OutOfMemoryError: in place of the error of JAX or Python.
  """
  try:
    yield
  except (jax.errors.JaxRuntimeError, MemoryError) as error:
    words = str(error)
    if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in words:
      line = ' '.join(words.split())[:200]
      raise OutOfMemoryError(
        f'out of memory ({line}); lower num_seeds, num_envs, replay_capacity '
        'or batch_size, and go on with --resume if only the budget changed'
      ) from error
    raise


def return_freed() -> None:
  """Returns memory that the compiler has freed to the operating system.

  Otherwise the C library keeps it: several GiB after a task such as dog. With
  another C library than glibc nothing happens.
  """
  with contextlib.suppress(AttributeError, OSError, TypeError):
    ctypes.CDLL(None).malloc_trim(0)


@dataclasses.dataclass(frozen=True)
class Budget:
  """Bytes by part, of the device that holds most.

  Attributes:
    replay: the ring buffers.
    agent: networks, targets, optimisers.
    env: environment states.
    available: free memory of a device; None where it is unknown.
  """

  replay: int
  agent: int
  env: int
  available: int | None

  @classmethod
  def of(
    cls,
    state: TrainState,
    devices: Sequence[Any] = (),
    platform: str | None = None,
  ) -> 'Budget':
    """Budget of an abstract state.

    Args:
      state: of `Runner.abstract_state`; its shardings give a device's part.
      devices: of its placement; none for the default one.
      platform: of a chip that is not here, whose free memory is unknown.
    """
    devices = tuple(devices) or (jax.devices()[0],)
    usual = devices == (jax.devices()[0],)
    of_platform = platform or devices[0].platform
    free = available_memory if usual else lambda: available_memory(*devices)
    return cls(
      replay=_bytes(state.replay, of_platform),
      agent=_bytes(state.agent, of_platform),
      env=_bytes(state.rollout, of_platform),
      available=None if platform else free(),
    )

  @property
  def total(self) -> int:
    """Bytes of the whole state."""
    return self.replay + self.agent + self.env

  def table(self) -> str:
    """The parts as aligned lines in MiB."""
    parts = {
      'replay': self.replay,
      'agent': self.agent,
      'env': self.env,
      'total': self.total,
    }
    lines = [
      f'  {name:10} {size / _MIB:12,.1f} MiB' for name, size in parts.items()
    ]
    if self.available is not None:
      lines.append(f'  {"available":10} {self.available / _MIB:12,.1f} MiB')
    return '\n'.join(lines)

  def check(self) -> None:
    """Refuses what cannot fit.

    Raises:
      ConfigError: with the numbers and what to lower.
    """
    if self.available is not None and self.total > self.available:
      raise ConfigError(
        f'the run needs {self.total / _MIB:,.0f} MiB (replay '
        f'{self.replay / _MIB:,.0f}, agent {self.agent / _MIB:,.0f}, env '
        f'{self.env / _MIB:,.0f}) and the device has '
        f'{self.available / _MIB:,.0f} MiB; lower replay_capacity, num_seeds '
        'or num_envs'
      )


def parameter_count(params: Any) -> int:
  """Numbers in a parameter tree (arrays or their shapes)."""
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def available_memory(*devices: Any) -> int | None:
  """Free bytes of a device; None where they are unknown.

  Args:
    *devices: the one with the least free memory counts; none for the default
      one. Devices that are parts of the host share its memory.
  """
  devices = devices or (jax.devices()[0],)
  stats = [device.memory_stats() or {} for device in devices]
  if all('bytes_limit' in s for s in stats):
    return min(s['bytes_limit'] - s.get('bytes_in_use', 0) for s in stats)
  try:
    with open('/proc/meminfo', encoding='ascii') as file:
      fields = dict(line.split(':', 1) for line in file)
    return int(fields['MemAvailable'].split()[0]) * 1024 // len(devices)
  except (OSError, KeyError, ValueError):
    return None


def _bytes(tree: Any, platform: str) -> int:
  """Bytes of a tree, padded as a platform keeps it in memory."""

  def size(leaf):
    # A typed key's dtype has no public size: threefry keys are 8 bytes.
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    shape, sharding = leaf.shape, getattr(leaf, 'sharding', None)
    if sharding is not None:
      shape = sharding.shard_shape(shape)
    if platform == 'tpu' and shape:  # tiles of 8 x 128 numbers
      tile = (*(len(shape) - 2) * [1], 8, 128)[-len(shape) :]
      shape = [-(-n // t) * t for n, t in zip(shape, tile, strict=True)]
    return math.prod(shape) * (8 if is_key else leaf.dtype.itemsize)

  return sum(size(leaf) for leaf in jax.tree.leaves(tree))
