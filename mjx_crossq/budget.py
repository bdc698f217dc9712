"""What a run will hold in memory, said before anything is compiled."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from mjx_crossq.config import ConfigError
from mjx_crossq.trainer import TrainState

_MIB = 2**20


class OutOfMemoryError(RuntimeError):
  """The device had no memory left; the message says what to lower."""


@contextlib.contextmanager
def advice_when_out_of_memory() -> Iterator[None]:
  """Says what to lower when the device or the host has no memory left.

  Raises:
    OutOfMemoryError: it had not.
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


@dataclasses.dataclass(frozen=True)
class Budget:
  """Bytes by part, for all seeds together.

  Attributes:
    replay: the ring buffers.
    agent: networks, targets, optimisers.
    env: environment states.
    available: free memory of the device; None where it cannot be told.
  """

  replay: int
  agent: int
  env: int
  available: int | None

  @classmethod
  def of(cls, state: TrainState) -> 'Budget':
    """Budget of an abstract state (`Runner.abstract_state`)."""
    return cls(
      replay=_bytes(state.replay),
      agent=_bytes(state.agent),
      env=_bytes(state.rollout),
      available=available_memory(),
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


def available_memory() -> int | None:
  """Bytes that the default device can still give, if it can be told."""
  stats = jax.devices()[0].memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit'] - stats.get('bytes_in_use', 0)
  try:
    with open('/proc/meminfo', encoding='ascii') as file:
      fields = dict(line.split(':', 1) for line in file)
    return int(fields['MemAvailable'].split()[0]) * 1024
  except (OSError, KeyError, ValueError):
    return None


def _bytes(tree: Any) -> int:
  def size(leaf):
    # A typed key's dtype has no public size: threefry keys are 8 bytes.
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return leaf.size * (8 if is_key else leaf.dtype.itemsize)

  return sum(size(leaf) for leaf in jax.tree.leaves(tree))
