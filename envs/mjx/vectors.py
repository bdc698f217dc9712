"""Vectors and quaternions as tuples of their components.

A vector's components are arrays of one shape, with an entry for each body
(joint, contact). All operations are then elementwise, so that compilers fuse a
chain of them into one. With a last axis of length three or four they split the
chain, and CPUs compute it several times slower.
"""

from typing import Any

import jax
import jax.numpy as jp

Vector = tuple[jax.Array, ...]
"""Components x, y, z."""
Quaternion = tuple[jax.Array, ...]
"""Components w, x, y, z."""


def split(x: jax.Array) -> Any:
  """Components of an array's last axis."""
  return tuple(x[..., i] for i in range(x.shape[-1]))


def join(*x: jax.Array) -> jax.Array:
  """The inverse of `split`."""
  return jp.stack(x, axis=-1)


def add(a: Vector, b: Vector) -> Vector:
  """Sum."""
  return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def subtract(a: Vector, b: Vector) -> Vector:
  """Difference."""
  return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def scale(a: Vector, factor: jax.Array | float) -> Vector:
  """Product with a number."""
  return a[0] * factor, a[1] * factor, a[2] * factor


def dot(a: Vector, b: Vector) -> jax.Array:
  """Scalar product."""
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Vector, b: Vector) -> Vector:
  """Vector product."""
  return (
    a[1] * b[2] - a[2] * b[1],
    a[2] * b[0] - a[0] * b[2],
    a[0] * b[1] - a[1] * b[0],
  )


def multiply(p: Quaternion, q: Quaternion) -> Quaternion:
  """The rotation by q, followed by that by p."""
  return (
    p[0] * q[0] - p[1] * q[1] - p[2] * q[2] - p[3] * q[3],
    p[0] * q[1] + p[1] * q[0] + p[2] * q[3] - p[3] * q[2],
    p[0] * q[2] - p[1] * q[3] + p[2] * q[0] + p[3] * q[1],
    p[0] * q[3] + p[1] * q[2] - p[2] * q[1] + p[3] * q[0],
  )


def rotate(q: Quaternion, a: Vector) -> Vector:
  """A vector turned by a unit quaternion."""
  u = (q[1], q[2], q[3])
  twice = tuple(2 * x for x in cross(u, a))
  return add(a, add(scale(twice, q[0]), cross(u, twice)))


def matrix(q: Quaternion) -> tuple[Vector, Vector, Vector]:
  """Rows of the rotation matrix of a unit quaternion."""
  w, x, y, z = q
  ww, xx, yy, zz = w * w, x * x, y * y, z * z
  return (
    (ww + xx - yy - zz, 2 * (x * y - w * z), 2 * (x * z + w * y)),
    (2 * (x * y + w * z), ww - xx + yy - zz, 2 * (y * z - w * x)),
    (2 * (x * z - w * y), 2 * (y * z + w * x), ww - xx - yy + zz),
  )


def join_matrix(rows: tuple[Vector, Vector, Vector]) -> jax.Array:
  """An array `(..., 3, 3)` of a matrix given by rows."""
  entries = join(*(x for row in rows for x in row))
  return entries.reshape(*entries.shape[:-1], 3, 3)


def unit(q: Quaternion, least: float) -> Quaternion:
  """A quaternion of length one; one shorter than `least` gives no rotation."""
  length = jp.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2 + q[3] ** 2)
  short = length < least
  inverse = 1 / jp.where(short, 1, length)
  one = jp.where(short, 1, q[0] * inverse)
  w, x, y, z = (jp.where(short, 0, c * inverse) for c in q)
  del w
  return one, x, y, z
