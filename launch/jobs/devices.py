"""The devices of this machine, and how processes share them."""

import dataclasses
import json
import os
import subprocess
import sys
from typing import NamedTuple

from mjx_crossq.config import ConfigError
from mjx_crossq.envs import processes
from mjx_crossq.launch import cli

_PROBE = """
import json
import jax
from mjx_crossq.device.budget import available_memory
found = jax.local_devices()
print(json.dumps([found[0].platform, len(found), available_memory()]))
"""
_SHARE = 0.75  # of a GPU's memory, which JAX allocates in one process


class Room(NamedTuple):
  """The devices of one process.

  Attributes:
    memory: bytes of each device; None if unknown.
    devices: how many.
  """

  memory: int | None
  devices: int


@dataclasses.dataclass(frozen=True)
class Devices:
  """The devices of this machine.

  Attributes:
    platform: `cpu`, `gpu` or `tpu`.
    count: how many.
    memory: free bytes of one; None if unknown.
  """

  platform: str
  count: int
  memory: int | None

  @classmethod
  def probe(cls) -> 'Devices':
    """Asks a separate process, which releases the devices when it ends.

    Raises:
      ConfigError: JAX does not start there.
    """
    done = subprocess.run(
      [sys.executable, '-c', _PROBE],
      env=processes.variables(),
      capture_output=True,
      text=True,
      check=False,
    )
    if done.returncode:
      *_, line = ['no message', *filter(None, done.stderr.splitlines())]
      raise ConfigError(cli.no_jax(line))
    return cls(*json.loads(done.stdout.splitlines()[-1]))

  def slots(self, parallel: int) -> list[dict[str, str]]:
    """Environment variables of each process that runs at a time.

    Args:
      parallel: number of processes; a single one has all devices.

    Raises:
      ConfigError: they cannot share the devices.
    """
    if parallel == 1 or self.platform == 'cpu':
      return [{} for _ in range(parallel)]
    if self.platform != 'gpu':
      raise ConfigError(
        f'--parallel={parallel}: processes cannot share a {self.platform}; '
        'leave it out'
      )
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    names = visible.split(',') if visible else [*map(str, range(self.count))]
    slots = [
      {'CUDA_VISIBLE_DEVICES': names[index % len(names)]}
      for index in range(parallel)
    ]
    if (each := -(-parallel // len(names))) > 1:
      for slot in slots:
        slot['XLA_PYTHON_CLIENT_MEM_FRACTION'] = f'{_SHARE / each:.3f}'
    return slots

  def room(self, parallel: int) -> Room:
    """The devices of one of the processes that run at a time.

    Args:
      parallel: number of processes.
    """
    if self.platform == 'cpu':  # forced host devices share the memory
      memory = self.memory and self.memory // parallel
      return Room(memory, 1)
    if parallel == 1:
      return Room(self.memory, self.count)
    each = -(-parallel // self.count)
    return Room(self.memory and self.memory // each, 1)
