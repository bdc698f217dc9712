"""Soft indicator functions; mirrors `dm_control.utils.rewards`."""

import jax
import jax.numpy as jp
import numpy as np

_MAY_REACH_ZERO = ('cosine', 'linear', 'quadratic')


def _sigmoid(x: jax.Array, value_at_1: float, sigmoid: str) -> jax.Array:
  """A bump that is 1 at 0 and `value_at_1` at 1.

  Args:
    x: distance, non-negative, in units of the margin.
    value_at_1: wanted value at `x == 1`, in [0, 1) for the shapes that reach
      zero and in (0, 1) for the others.
    sigmoid: one of the suite's eight shapes.

  Returns:
    Values in [0, 1], of the shape of `x`.

  Raises:
    ValueError: `value_at_1` is out of range or the shape is unknown.
  """
  zero_allowed = sigmoid in _MAY_REACH_ZERO
  if not (0 < value_at_1 < 1 or (zero_allowed and value_at_1 == 0)):
    raise ValueError(
      f'value_at_margin must be in {"[" if zero_allowed else "("}0, 1) for '
      f'{sigmoid!r}, not {value_at_1}.'
    )
  match sigmoid:
    case 'gaussian':
      scale = np.sqrt(-2 * np.log(value_at_1))
      return jp.exp(-0.5 * jp.square(x * scale))
    case 'hyperbolic':
      return 1 / jp.cosh(x * np.arccosh(1 / value_at_1))
    case 'long_tail':
      return 1 / (jp.square(x * np.sqrt(1 / value_at_1 - 1)) + 1)
    case 'reciprocal':
      return 1 / (jp.abs(x) * (1 / value_at_1 - 1) + 1)
    case 'cosine':
      x = x * (np.arccos(2 * value_at_1 - 1) / np.pi)
      return jp.where(jp.abs(x) < 1, (1 + jp.cos(jp.pi * x)) / 2, 0.0)
    case 'linear':
      x = x * (1 - value_at_1)
      return jp.where(jp.abs(x) < 1, 1 - x, 0.0)
    case 'quadratic':
      x = x * np.sqrt(1 - value_at_1)
      return jp.where(jp.abs(x) < 1, 1 - jp.square(x), 0.0)
    case 'tanh_squared':
      x = x * np.arctanh(np.sqrt(1 - value_at_1))
      return 1 - jp.square(jp.tanh(x))
    case _:
      raise ValueError(f'Unknown sigmoid {sigmoid!r}.')


def tolerance(
  x: jax.Array,
  bounds: tuple[float, float] = (0.0, 0.0),
  margin: float = 0.0,
  sigmoid: str = 'gaussian',
  value_at_margin: float = 0.1,
) -> jax.Array:
  """1 inside the bounds, falling to 0 outside.

  Source: `dm_control.utils.rewards.tolerance`.

  Args:
    x: values of any shape.
    bounds: inclusive target interval; may be infinite or a point.
    margin: distance from the interval at which the value is `value_at_margin`;
      0 makes a hard step.
    sigmoid: the shape of the fall: 'gaussian', 'hyperbolic', 'long_tail',
      'reciprocal', 'cosine', 'linear', 'quadratic' or 'tanh_squared'.
    value_at_margin: see `margin`, which makes it unused when 0.

  Returns:
    float32 values in [0, 1], of the shape of `x`.

  Raises:
    ValueError: bounds in the wrong order, or a negative margin.
  """
  lower, upper = bounds
  if lower > upper:
    raise ValueError(f'Lower bound {lower} is above the upper bound {upper}.')
  if margin < 0:
    raise ValueError(f'The margin must not be negative, but is {margin}.')
  x = jp.asarray(x, jp.float32)
  inside = (lower <= x) & (x <= upper)
  if margin == 0:
    return inside.astype(jp.float32)
  # Python floats: NumPy's would turn float32 into float64 under x64.
  distance = jp.where(x < lower, lower - x, x - upper) / float(margin)
  return jp.where(inside, 1.0, _sigmoid(distance, value_at_margin, sigmoid))


def at_least(
  x: jax.Array, bound: float, *, margin: float, value_at_margin: float = 0
) -> jax.Array:
  """1 at or above a bound, falling linearly below it.

  Args:
    x: values of any shape.
    bound: the bound.
    margin: distance below the bound at which the value is `value_at_margin`.
    value_at_margin: see `margin`.

  Returns:
    float32 values in [0, 1], of the shape of `x`.
  """
  bounds = (bound, float('inf'))
  return tolerance(x, bounds, margin, 'linear', value_at_margin)


def small_control(ctrl: jax.Array) -> jax.Array:
  """1 for controls of 0, falling quadratically to 0 at 1 and -1.

  Args:
    ctrl: controls, of any shape.

  Returns:
    float32 values in [0, 1], of the shape of `ctrl`.
  """
  return tolerance(ctrl, margin=1, value_at_margin=0, sigmoid='quadratic')
