"""Times programs: warm, alternately, with medians."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from mjx_crossq.learner import layers


@dataclasses.dataclass(frozen=True)
class Time:
  """Repeated measurements of one program.

  Attributes:
    seconds: of each repeat.
  """

  seconds: tuple[float, ...]

  @property
  def median(self) -> float:
    """Median in seconds."""
    return statistics.median(self.seconds)

  @property
  def spread(self) -> float:
    """(max - min) / median."""
    return (max(self.seconds) - min(self.seconds)) / self.median


def interleaved(
  programs: Mapping[str, Callable[[], None]], repeats: int
) -> dict[str, Time]:
  """Times programs alternately, so that other load affects all of them.

  Args:
    programs: compiled functions that return when their work is done.
    repeats: how often each is run.

  Returns:
    Their times by name.
  """
  seconds: dict[str, list[float]] = {name: [] for name in programs}
  for _ in range(repeats):
    for name, program in programs.items():
      start = time.monotonic()
      program()
      seconds[name].append(time.monotonic() - start)
  return {name: Time(tuple(values)) for name, values in seconds.items()}


def ceilings(precision: str, repeats: int = 5) -> dict[str, float]:
  """The rates of a matrix product and of a copy on the device.

  Args:
    precision: of the product, see `Config.matmul_precision`.
    repeats: of which the fastest counts.

  Returns:
    'flops_per_second', and 'bytes_per_second' read and written.
  """
  on_cpu = jax.default_backend() == 'cpu'
  size, length = (2048, 2**25) if on_cpu else (8192, 2**28)
  matrix = jnp.full((size, size), 1e-3)
  vector = jnp.zeros(length)
  product = jax.jit(lambda x: layers.product(x, matrix, precision))
  copy = jax.jit(lambda x: x + 1)
  programs = {
    'product': lambda: jax.block_until_ready(product(matrix)),
    'copy': lambda: jax.block_until_ready(copy(vector)),
  }
  interleaved(programs, 1)  # compiles
  times = interleaved(programs, repeats)
  return {
    'flops_per_second': 2 * size**3 / min(times['product'].seconds),
    'bytes_per_second': 2 * vector.nbytes / min(times['copy'].seconds),
  }
