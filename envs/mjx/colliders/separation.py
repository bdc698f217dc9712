"""The signed distance of two convex bodies, by their support functions.

Bodies A and B with centres a and b and symmetric shapes have the separation

  s(n) = n . (b - a) - h_A(n) - h_B(n)

along a unit vector n, where h is the support function of a shape about its
centre. The largest separation of all directions is the signed distance: the
gap of bodies that are apart, minus the least depth of bodies that overlap, and
its direction is the normal of the contact, from A to B. Any direction of
positive separation proves that the bodies are apart. For overlapping bodies
there may be several local maxima.

The support functions are closed forms: |A^T n| of an ellipsoid, the image of
the unit ball by the matrix A, and sum_i b_i |n_i| of a box, of which a segment
and a point are special cases. A sphere adds its radius, which moves no maximum.

`largest_separation` climbs by Newton's method on the sphere of directions. The
kinks of |n_i| are the directions in which edges and faces of the box touch:
a coordinate in which the subgradient contains zero stays zero, and one that
would change its sign in a step stops at zero.

Vectors are tuples of scalars here (`vectors`), so that `vmap` makes them arrays
whose last axis is the batch. Barriers keep XLA from computing shared terms once
for each reader.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs.mjx.vectors import Vector, add, cross, dot, scale

ITERATIONS = 10
"""Number of Newton steps."""
_LONGEST_STEP = 0.8
"""Largest step, about, in radians."""
_STEPS = (1.0, 0.5, 0.2, 0.05)
"""Fractions of Newton's step that are tried."""
_FULL_STEPS = 2
"""Number of final steps, which are not shortened."""
_ROUNDING = 1e-6
"""Rounding error of a separation in float32, relative to the bodies' size."""
_SMALL_STEP = 0.01
"""Radians; the last steps are taken only where Newton's method converged."""
_LEAST_CURVATURE = 1e-5
"""Least curvature in a Newton step, relative to the bodies' size."""
_TINY = 1e-12
"""Length of the image of a direction in which an ellipsoid has no height."""
_APART = 0.9
"""Largest cosine of two different starts."""
_BESIDE = 0.1
"""Radians between a sharp direction and the start beside it."""
_FLAT = 0.01
"""Length of the image of a direction that counts as sharp, of the size."""
_SAME = 0.9999
"""Least cosine of a sharp direction and a start that counts as the same."""
_LATTICE = np.array(
  [x for x in itertools.product((-1, 0, 1), repeat=3) if any(x)]
)


class Shapes(NamedTuple):
  """Two bodies, in units of their size, in the frame of the box.

  Attributes:
    offset: from the first body's centre to the second's.
    factors: columns of each ellipsoid's matrix.
    box: half sizes of the box; zeros are no kinks.
    sharp: directions that may be a maximum at which the climb cannot stay, as
      may the opposite ones: ellipsoids without height have corners.
  """

  offset: Vector
  factors: tuple[tuple[Vector, Vector, Vector], ...]
  box: Vector
  sharp: tuple[Vector, ...] = ()

  @classmethod
  def of(
    cls,
    offset: jax.Array,
    factors: list[jax.Array],
    box: jax.Array,
    sharp: Sequence[jax.Array] = (),
  ) -> 'Shapes':
    """From arrays `(3,)`, `(3, 3)` each, `(3,)`, and `(3,)` each."""
    columns = tuple(
      (_vector(f[:, 0]), _vector(f[:, 1]), _vector(f[:, 2])) for f in factors
    )
    directions = tuple(_unit(_vector(x)) for x in sharp)
    return cls(_vector(offset), columns, _vector(box), directions)


def _vector(x: jax.Array) -> Vector:
  return x[0], x[1], x[2]


def _each(function: Callable[..., jax.Array], *vectors: Vector) -> Vector:
  """A function of each coordinate."""
  x, y, z = (function(*c) for c in zip(*vectors, strict=True))
  return x, y, z


def _unit(x: Vector) -> Vector:
  """A vector of length one; zero gives the last axis."""
  square = dot(x, x)
  zero = square == 0
  inverse = jax.lax.rsqrt(jp.where(zero, 1, square))
  x = scale(x, inverse)
  return x[0], x[1], jp.where(zero, 1, x[2])


def _images(shapes: Shapes, normal: Vector) -> list[tuple[Vector, jax.Array]]:
  """A^T n of each ellipsoid as a unit vector and a length."""
  result = []
  for a, b, c in shapes.factors:
    image = (dot(a, normal), dot(b, normal), dot(c, normal))
    length = jp.maximum(jp.sqrt(dot(image, image)), _TINY)
    result.append((scale(image, 1 / length), length))
  return result


def _mapped(factor: tuple[Vector, Vector, Vector], x: Vector) -> Vector:
  """A x."""
  a, b, c = factor
  return add(add(scale(a, x[0]), scale(b, x[1])), scale(c, x[2]))


def separation(shapes: Shapes, normal: Vector) -> jax.Array:
  """s(n) of the module's docstring, scalar."""
  curved = sum(length for _, length in _images(shapes, normal))
  flat = sum(b * jp.abs(x) for b, x in zip(shapes.box, normal, strict=True))
  return dot(normal, shapes.offset) - curved - flat


def support(shapes: Shapes, index: int, normal: Vector) -> Vector:
  """The farthest point of an ellipsoid from its centre along a direction."""
  unit, _ = _images(shapes, normal)[index]
  return _mapped(shapes.factors[index], unit)


def _slope(
  shapes: Shapes, normal: Vector, units: list[Vector]
) -> tuple[Vector, Vector, Vector]:
  """Gradient, the box coordinates' signs, and which of them stay zero."""
  smooth = shapes.offset
  for factor, unit in zip(shapes.factors, units, strict=True):
    smooth = add(smooth, scale(_mapped(factor, unit), -1))
  kinked = _each(lambda b: b > 0, shapes.box)
  on_kink = _each(lambda k, x: k & (x == 0), kinked, normal)
  leaves = _each(lambda g, b: jp.abs(g) > b, smooth, shapes.box)
  signs = _each(
    lambda g, x, k, out: jp.where(k & out, jp.sign(g), jp.sign(x)),
    *(smooth, normal, on_kink, leaves),
  )
  gradient = _each(lambda g, b, s: g - b * s, smooth, shapes.box, signs)
  fixed = _each(lambda k, out: k & ~out, on_kink, leaves)
  return gradient, _each(lambda k, s: jp.where(k, s, 0), kinked, signs), fixed


def _tangents(normal: Vector, fixed: Vector) -> tuple[Vector, Vector]:
  """A basis of the tangent plane; the second is a fixed axis, if any is."""
  x, y, z = _each(lambda c, f: jp.where(f, -1, jp.abs(c)), normal, fixed)
  first = (x <= y) & (x <= z)
  second = ~first & (y <= z)
  axis = (first, second, ~first & ~second)
  axis = _each(lambda chosen: jp.where(chosen, 1, 0).astype(x.dtype), axis)
  inner = _unit(add(axis, scale(normal, -dot(axis, normal))))
  return cross(normal, inner), inner


def _direction(shapes: Shapes, normal: Vector) -> tuple[Vector, Vector]:
  """Newton's step, and the signs that the box's coordinates keep in it."""
  images = jax.lax.optimization_barrier(_images(shapes, normal))
  gradient, signs, fixed = _slope(shapes, normal, [unit for unit, _ in images])
  basis = _tangents(normal, fixed)
  gradient, basis = jax.lax.optimization_barrier((gradient, basis))
  one, two, three = fixed
  none_free = (one & two) | (one & three) | (two & three)
  free = (~none_free, ~(one | two | three))
  slope = tuple(
    jp.where(f, dot(t, gradient), 0) for f, t in zip(free, basis, strict=True)
  )
  # Second derivatives: of the ellipsoids, and of the sphere of directions.
  value = dot(normal, gradient)
  hessian = [value, jp.zeros_like(value), value]
  for (a, b, c), (unit, length) in zip(shapes.factors, images, strict=True):
    across = []
    for tangent in basis:
      image = (dot(a, tangent), dot(b, tangent), dot(c, tangent))
      across.append(add(image, scale(unit, -dot(image, unit))))
    for k, (p, q) in enumerate(((0, 0), (0, 1), (1, 1))):
      hessian[k] = hessian[k] + dot(across[p], across[q]) / length
  hessian, slope = jax.lax.optimization_barrier((hessian, slope))
  step = _ascent(hessian, slope, free)
  length = jp.sqrt(step[0] * step[0] + step[1] * step[1])
  shorten = _LONGEST_STEP / jp.maximum(length, _LONGEST_STEP)
  one, two = (scale(t, x * shorten) for t, x in zip(basis, step, strict=True))
  return jax.lax.optimization_barrier((add(one, two), signs))


def _ascent(hessian, slope, free) -> tuple[jax.Array, jax.Array]:
  """`|hessian|^-1 slope`, by the eigenvalues' sizes, in the free axes."""
  mixed = jp.where(free[0] & free[1], hessian[1], 0)
  a = jp.where(free[0], hessian[0], 1)
  c = jp.where(free[1], hessian[2], 1)
  mean, half = (a + c) / 2, (a - c) / 2
  radius = jp.sqrt(half * half + mixed * mixed)
  # The unit eigenvector of the larger eigenvalue.
  x = jp.where(half >= 0, half + radius, mixed)
  y = jp.where(half >= 0, mixed, radius - half)
  square = x * x + y * y
  norm = jax.lax.rsqrt(jp.where(square > 0, square, 1))
  x, y = jp.where(square > 0, x * norm, 1), y * norm
  high = jp.maximum(jp.abs(mean + radius), _LEAST_CURVATURE)
  low = jp.maximum(jp.abs(mean - radius), _LEAST_CURVATURE)
  p = (x * slope[0] + y * slope[1]) / high
  q = (x * slope[1] - y * slope[0]) / low
  return x * p - y * q, y * p + x * q


def _moved(normal: Vector, step: Vector, signs: Vector) -> Vector:
  """A direction after a step; coordinates stop where they leave their sign."""
  moved = add(normal, step)
  return _unit(
    _each(lambda x, s: jp.where((s != 0) & (x * s < 0), 0, x), moved, signs)
  )


def _both_ways(directions: Sequence[Vector]) -> list[Vector]:
  """The directions, and then the opposite ones."""
  return [*directions, *(scale(x, -1) for x in directions)]


def _columns(vectors: Sequence[Vector]) -> jax.Array:
  """`(3, n)`."""
  return jp.stack([jp.stack(x) for x in vectors], axis=1)


def _choose(condition: jax.Array, x: Vector, y: Vector) -> Vector:
  return _each(lambda a, b: jp.where(condition, a, b), x, y)


def _climb(shapes: Shapes, start: Vector) -> Vector:
  """A local maximum of the separation, from a start."""

  def advance(i, normal):
    step, signs = _direction(shapes, normal)
    fractions = jp.asarray(_STEPS, normal[0].dtype)
    trials = _moved(normal, scale(step, fractions), signs)
    # Without the barrier XLA's GPU compiler takes 40 times as long.
    values = jax.lax.optimization_barrier(separation(shapes, trials))
    # The longest of those that are equal but for rounding.
    best = jp.argmax(values >= values.max() - _ROUNDING)
    # The last steps are full ones, where Newton's method has converged.
    last = i >= ITERATIONS - _FULL_STEPS
    small = dot(step, step) < _SMALL_STEP**2
    moved = _each(lambda x: jp.take(x, jp.where(last, 0, best)), trials)
    return _choose(~last | small, moved, normal)

  return jax.lax.fori_loop(0, ITERATIONS, advance, start)


def _beside(shapes: Shapes, sharp: Vector) -> Vector:
  """A start beside a sharp direction, where the rest of the bodies rises.

  A climb that begins in the sharp direction itself ends anywhere: Newton's step
  is of the rounding of an image of no length.
  """
  gradient = shapes.offset
  images = _images(shapes, sharp)
  for factor, (unit, length) in zip(shapes.factors, images, strict=True):
    part = jp.where(length > _FLAT, -1, 0).astype(length.dtype)
    gradient = add(gradient, scale(_mapped(factor, unit), part))
  gradient = _each(
    lambda g, b, n: g - b * jp.sign(n), gradient, shapes.box, sharp
  )
  tangent = add(gradient, scale(sharp, -dot(gradient, sharp)))
  return _unit(add(sharp, scale(_unit(tangent), _BESIDE)))


def candidates(shapes: Shapes) -> jax.Array:
  """Directions that may be near a maximum, `(3, n)`."""
  dtype = shapes.offset[0].dtype
  lattice = _LATTICE / np.linalg.norm(_LATTICE, axis=1, keepdims=True)
  lattice = _vector(jp.asarray(lattice.T, dtype))
  # The same for a box that is a cube after scaling.
  scaled = _each(lambda x, b: x / jp.where(b > 0, b, 1), lattice, shapes.box)
  scaled = _unit(scaled)
  axes = [_unit(column) for factor in shapes.factors for column in factor]
  single = [_unit(shapes.offset), *_both_ways(axes)]
  return jp.concatenate(
    [_columns(single), jp.stack(lattice), jp.stack(scaled)], axis=1
  )


def _starts(shapes: Shapes, count: int) -> jax.Array:
  """Directions to climb from, `(3, count)`: the best that are far apart."""
  normals = candidates(shapes)
  if shapes.sharp:
    beside = [_beside(shapes, x) for x in _both_ways(shapes.sharp)]
    normals = jp.append(normals, _columns(beside), axis=1)
  values = separation(shapes, _vector(normals))
  for sharp in shapes.sharp:
    same = jp.abs(dot(_vector(normals), sharp)) > _SAME
    values = jp.where(same, -math.inf, values)
  starts = []
  for _ in range(count):
    best = jp.take(normals, jp.argmax(values), axis=1)
    starts.append(best)
    near = dot(_vector(normals), _vector(best)) > _APART
    values = jp.where(near, -math.inf, values)
  return jp.stack(starts, axis=1)


def coarse_separation(shapes: Shapes) -> jax.Array:
  """A lower bound of the largest separation, scalar, at little cost."""
  return separation(shapes, _vector(candidates(shapes))).max()


def largest_separation(shapes: Shapes, starts: int) -> tuple[jax.Array, Vector]:
  """The signed distance of two bodies.

  Args:
    shapes: the bodies.
    starts: how many directions to climb from.

  Returns:
    The distance, scalar, and the unit normal from the first body to the second.
  """
  first = _vector(_starts(shapes, starts))
  normals = jax.vmap(lambda *x: _climb(shapes, x))(*first)
  if shapes.sharp:
    normals = _each(
      lambda climbed, *x: jp.append(climbed, jp.stack(x)),
      normals,
      *_both_ways(shapes.sharp),
    )
  values = separation(shapes, normals)
  best = jp.argmax(values)
  return values[best], _each(lambda x: jp.take(x, best), normals)
