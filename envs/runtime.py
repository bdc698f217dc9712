"""Process-wide settings that must precede JAX's first computation.

jaxlib (seen with 0.10.2) deadlocks when two batched LAPACK calls, such as the
Cholesky factorisations of MJX's solver, run at once on a CPU thread pool of
one or two threads. A larger pool avoids it and costs no speed.
"""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator

MIN_CPU_THREADS = 16
"""A pool of this size never hung in the measurements (jaxlib 0.10.2)."""


def _schedulable_cpus() -> int:
  """CPUs that this process may use; in a container fewer than the host has."""
  count = os.cpu_count() or 1
  if hasattr(os, 'sched_getaffinity'):  # Linux only.
    count = min(count, len(os.sched_getaffinity(0)))
  return count


def configure() -> None:
  """Enlarges jax's CPU thread pool on small machines.

  Sets `PJRT_NPROC` in the environment, unless the user has set it. It has an
  effect only before jax's first computation in this process.
  """
  if _schedulable_cpus() < MIN_CPU_THREADS:
    os.environ.setdefault('PJRT_NPROC', str(MIN_CPU_THREADS))


_DETERMINISTIC = '--xla_gpu_deterministic_ops=true'


def make_deterministic() -> None:
  """Makes XLA choose GPU operations whose results do not vary between runs.

  On CPUs they never do. The setting has an effect only before JAX's first
  computation.
  """
  chosen = os.environ.get('XLA_FLAGS', '')
  if _DETERMINISTIC not in chosen.split():
    os.environ['XLA_FLAGS'] = f'{chosen} {_DETERMINISTIC}'.strip()


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
