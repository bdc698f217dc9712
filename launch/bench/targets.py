"""Chips that the training program is compiled for, without having one.

XLA's compilers for GPUs and TPUs run on any x86-64 Linux: they need a
description of the chip, and no driver. `prepare` must be called before JAX is
imported. Figures of chips are those of public data sheets; what a launch and a
decision of the host cost are assumptions, to be replaced by measurements.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock


@dataclasses.dataclass(frozen=True)
class Target:
  """A chip.

  Attributes:
    name: as --target has it.
    platform: JAX's name for the compiler.
    backend: what `jax.default_backend()` is on a machine with the chip.
    module: that is there if the compiler is installed; '' where none is needed.
    packages: that bring it, by their names.
    topology: XLA's name of a machine with such chips; '' where not needed.
    host_control: whether the host reads each condition of a loop or a branch
      before it goes on; otherwise the chip decides by itself.
    launch_us: assumed microseconds of an operation that does next to nothing.
    round_trip_us: assumed microseconds of a condition that the host reads.
    flops: of products of float32 at the highest rate that the chip has, 1/s.
    bandwidth: of its memory, bytes/s.
    memory: bytes; None where it must be asked for.
  """

  name: str
  platform: str
  backend: str
  module: str = ''
  packages: tuple[str, ...] = ()
  topology: str = ''
  host_control: bool = False
  launch_us: float = 0.5
  round_trip_us: float = 0.0
  flops: float | None = None
  bandwidth: float | None = None
  memory: int | None = None


_TPU = Target('', 'tpu', 'tpu', module='libtpu', packages=('libtpu',))
TARGETS = {
  target.name: target
  for target in (
    Target(
      'h100',
      'cuda',
      'gpu',
      module='jax_plugins.xla_cuda13',
      packages=('jax-cuda13-pjrt', 'jax-cuda13-plugin'),
      topology='1x1x1',
      host_control=True,
      launch_us=2.5,
      round_trip_us=10.0,
      flops=495e12,  # TF32 without sparsity
      bandwidth=3.35e12,
      memory=80 * 2**30,
    ),
    dataclasses.replace(
      _TPU,
      name='v5e',
      topology='v5e:2x2',
      flops=197e12,  # bfloat16, of which a product of float32 takes several
      bandwidth=819e9,
      memory=16 * 2**30,
    ),
    dataclasses.replace(
      _TPU,
      name='v6e',
      topology='v6e:2x2',
      flops=918e12,
      bandwidth=1640e9,
      memory=32 * 2**30,
    ),
    Target('here', 'cpu', 'cpu'),
  )
}

_H100 = """
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352000000000
  device_memory_size: 85899345920
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""
_CUDA_FLAGS = {
  # Tiles of Triton's products are chosen by timing them. Without a device the
  # default ones are taken, which for some products cannot be compiled.
  '--xla_gpu_enable_triton_gemm': 'false',
  # Of the machine code only: the operations are the same, in half the time.
  '--xla_backend_optimization_level': '0',
}
"""What the compiler for GPUs is told, unless the user's XLA_FLAGS do."""


class MissingCompilerError(RuntimeError):
  """The compiler of a target is not installed; the message says what to do."""


def prepare(name: str) -> None:
  """Sets what the compilers read from the environment; before JAX starts.

  Args:
    name: of the target.

  Raises:
    MissingCompilerError: the target's compiler is not installed.
  """
  target = TARGETS[name]
  if not is_installed(target):
    raise MissingCompilerError(_advice(target))
  os.environ['JAX_PLATFORMS'] = 'cpu'
  os.environ['JAX_ENABLE_COMPILATION_CACHE'] = 'false'  # it would hide seconds
  if target.platform == 'cuda':
    flags = os.environ.get('XLA_FLAGS', '')
    ours = (f'{n}={v}' for n, v in _CUDA_FLAGS.items() if n not in flags)
    os.environ['XLA_FLAGS'] = ' '.join((flags, *ours)).strip()
  if target.platform == 'tpu':
    spec: Any = importlib.util.find_spec(target.module)
    library = Path(spec.submodule_search_locations[0]) / 'libtpu.so'
    # So that libtpu asks no metadata server which machine it is on.
    os.environ |= {
      'TPU_LIBRARY_PATH': str(library),
      'TPU_SKIP_MDS_QUERY': '1',
      'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
      'TPU_WORKER_HOSTNAMES': 'localhost',
    }


def is_installed(target: Target) -> bool:
  """Whether the compiler of a target is there.

  Args:
    target: the chip.
  """
  try:
    return not target.module or bool(importlib.util.find_spec(target.module))
  except ModuleNotFoundError:  # the package that it is in
    return False


def _advice(target: Target) -> str:
  """How to install a compiler, in the version that goes with this JAX."""
  version = importlib.metadata.version('jax')
  wanted = importlib.metadata.requires('jax') or ()
  packages = []
  for name in target.packages:
    match = re.search(rf'^{name}==([\w.*]+)', '\n'.join(wanted), re.MULTILINE)
    packages.append(f"'{name}=={match[1] if match else version}'")
  return (
    f'--target={target.name} needs a compiler that is not installed: '
    "pip install 'mjx-crossq[inspect]'; or, beside this environment, pip "
    f'install --no-deps --target DIR {" ".join(packages)}, and PYTHONPATH=DIR'
  )


def device(target: Target) -> Any:
  """A device of the chip, for which programs can be compiled and not run.

  Args:
    target: one for which `prepare` was called.
  """
  import jax

  jax.devices()  # finds the compilers that are installed
  if target.platform == 'cpu':
    return jax.devices()[0]
  from jax.experimental import topologies

  if target.platform == 'tpu':
    topology = topologies.get_topology_desc(target.topology, platform='tpu')
  else:
    topology = topologies.get_topology_desc(
      '',
      platform=target.platform,
      topology=target.topology,
      target_config=_H100,
    )
  return topology.devices[0]


@contextlib.contextmanager
def traced_for(target: Target) -> Iterator[None]:
  """Answers `jax.default_backend()` as a machine with the chip would.

  MJX asks it while a program is traced (for instance whether to keep the mass
  matrix sparse), so that the program would be another one otherwise. JAX's own
  modules do not ask it by this name, and are left alone.

  Args:
    target: the chip.
  """
  with mock.patch('jax.default_backend', lambda: target.backend):
    yield
