"""Process-wide settings that must precede JAX's first computation."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator


def cores() -> int:
  """Cores that this process may use; in a container fewer than the host has."""
  count = os.cpu_count() or 1
  if hasattr(os, 'sched_getaffinity'):  # Linux only.
    count = min(count, len(os.sched_getaffinity(0)))
  return count


_DETERMINISTIC = '--xla_gpu_deterministic_ops=true'
_DEVICES = '--xla_force_host_platform_device_count'
_ONE_THREAD = '--xla_cpu_multi_thread_eigen=false'


def make_deterministic() -> None:
  """Makes XLA choose GPU operations whose results do not vary between runs.

  On CPUs they never do. The setting has an effect only before JAX's first
  computation.
  """
  _add_flag(_DETERMINISTIC)


def use_cores(most: int) -> None:
  """Divides the CPU into devices, a core each, over which seeds are spread.

  Where all cores are devices, the program of a seed computes on one thread. A
  number of devices that `XLA_FLAGS` already has is kept. The setting has an
  effect only before JAX's first computation, and none on GPUs.

  Args:
    most: largest number of devices, such as the number of seeds; there are
      never more than cores.
  """
  count = min(most, cores())
  if count == 1 or _DEVICES in os.environ.get('XLA_FLAGS', ''):
    return
  _add_flag(f'{_DEVICES}={count}')
  if count == cores():
    _add_flag(_ONE_THREAD)


def _add_flag(flag: str) -> None:
  """Adds a flag to those of XLA, once."""
  chosen = os.environ.get('XLA_FLAGS', '')
  if flag not in chosen.split():
    os.environ['XLA_FLAGS'] = f'{chosen} {flag}'.strip()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
  """Silences the messages of robotics packages at import and while loading.

  MJX prints on stdout that Warp is missing, GLFW warns that there is no
  display, and dm_control that its own model files use a deprecated attribute.
  """
  logger = logging.getLogger('absl')
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
      warnings.simplefilter('ignore')
      yield
  finally:
    logger.setLevel(level)
