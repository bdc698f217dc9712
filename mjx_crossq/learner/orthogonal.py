"""Random orthogonal matrices in plain JAX.

`jnp.linalg.qr` calls a library. On CPUs it is LAPACK, whose threads contend
with XLA's and, in a pool of one or two, may wait for each other without end. On
GPUs it is cuSOLVER, which takes one matrix after the other.
"""

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

BLOCK = 32
"""Columns that are made orthogonal to all earlier ones at once."""


def initializer(gain: float) -> nn.initializers.Initializer:
  """`flax.linen.initializers.orthogonal(gain)`, with the same numbers.

  They are equal up to rounding: each is the Q of the same normal matrix whose R
  has a positive diagonal.

  Args:
    gain: by which the matrix is multiplied.
  """

  def init(key, shape, dtype=jnp.float32):
    normal = jax.random.normal(key, (max(shape), min(shape)), dtype)
    matrix = orthonormal(normal)
    return gain * (matrix if shape[0] >= shape[1] else matrix.T)

  return init


@jax.jit
def orthonormal(matrix: jax.Array) -> jax.Array:
  """Orthonormal columns by Gram-Schmidt, each step of which is done twice.

  Done once, its error would be rounding times the condition number.

  Args:
    matrix: of full rank, `(rows, columns)` with no fewer rows.

  Returns:
    The Q of its QR factors, where R has a positive diagonal; the same shape.
  """
  rows, columns = matrix.shape
  width = min(BLOCK, columns)
  blocks = -(-columns // width)
  matrix = jnp.pad(matrix, ((0, 0), (0, blocks * width - columns)))

  def add(index, found):
    def once(_, block):
      block -= _dot(found, _dot(found.T, block))
      return jax.lax.fori_loop(0, width, _orthogonalize, block)

    start = (0, index * width)
    block = jax.lax.dynamic_slice(matrix, start, (rows, width))
    block = jax.lax.fori_loop(0, 2, once, block)
    return jax.lax.dynamic_update_slice(found, block, start)

  found = jax.lax.fori_loop(0, blocks, add, jnp.zeros_like(matrix))
  return found[:, :columns]


def _orthogonalize(index: jax.Array, block: jax.Array) -> jax.Array:
  """Divides a column by its norm and removes it from the later ones."""
  column = block[:, index]
  # A column of zeros fills up a block.
  tiny = jnp.finfo(block.dtype).tiny
  column *= jax.lax.rsqrt(jnp.maximum(jnp.sum(column**2), tiny))
  later = jnp.arange(block.shape[1]) > index
  shares = jnp.where(later, jnp.sum(column[:, None] * block, axis=0), 0)
  return (block - column[:, None] * shares).at[:, index].set(column)


_dot = functools.partial(jnp.dot, precision=jax.lax.Precision.HIGHEST)
