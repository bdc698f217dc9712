"""Initial states: their type, and how stock draws them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs.mjx import models

Params = dict[str, jax.Array]
"""What stock draws anew in every episode besides the physics state (a target's
position, say), by name. It lives in `State.info`."""

MAX_DRAWS = 1000
"""Largest number of draws of an initial state; the last is taken as it is. Some
of stock's tasks give up, others never do. A state with NaNs would otherwise be
drawn again for ever."""


class Initial(NamedTuple):
  """A draw from stock's initial distribution.

  Attributes:
    qpos: generalised positions, `(nq,)`.
    qvel: generalised velocities, `(nv,)`; None for zeros.
    act: actuator activations, `(na,)`; None for zeros.
    params: the episode's parameters; None for the model file's.
  """

  qpos: jax.Array
  qvel: jax.Array | None = None
  act: jax.Array | None = None
  params: Params | None = None


def until(
  touches: Callable[[Initial], jax.Array],
  rng: jax.Array,
  draw: Callable[[jax.Array, Initial], Initial],
  start: Initial | None = None,
) -> Initial:
  """Draws until no geoms touch, as stock does.

  Args:
    touches: whether geoms of a candidate touch.
    rng: a key.
    draw: maps a key and the previous candidate to a candidate.
    start: the candidate that the first draw gets; None if draws ignore it.

  Returns:
    The first candidate without contact.
  """

  def attempt(carry):
    last, _, count = carry
    initial = draw(jax.random.fold_in(rng, count), last)
    return initial, touches(initial), count + 1

  def again(carry):
    _, touching, count = carry
    return touching & (count < MAX_DRAWS)

  first: Any = start
  if start is None:
    shapes = jax.eval_shape(draw, rng, first)
    first = jax.tree.map(lambda x: jp.zeros(x.shape, x.dtype), shapes)
  carry = (first, jp.array(True), jp.zeros((), jp.int32))
  return jax.lax.while_loop(again, attempt, carry)[0]


def random_joints(mj_model: models.MjModel, rng: jax.Array) -> jax.Array:
  """Draws limited joints in their range and other rotations in full.

  Source: `randomize_limited_and_rotational_joints` of the suite, whose
  quaternions of free joints are uniform numbers in [0, 1], normalised.

  Args:
    mj_model: the C model.
    rng: a key.

  Returns:
    `qpos` `(nq,)`; slides without limits and the positions of free joints
    stay at `qpos0`.

  Raises:
    NotImplementedError: the model has ball joints.
  """
  m, joint = mj_model, models.mujoco.mjtJoint
  if (m.jnt_type == joint.mjJNT_BALL).any():
    raise NotImplementedError('Random ball joints.')
  low, high = m.qpos0.copy(), m.qpos0.copy()
  for kind, limited, at, bounds in zip(
    m.jnt_type, m.jnt_limited, m.jnt_qposadr, m.jnt_range, strict=True
  ):
    if kind == joint.mjJNT_FREE:
      low[at + 3 : at + 7], high[at + 3 : at + 7] = 0, 1
    elif limited:
      low[at], high[at] = bounds
    elif kind == joint.mjJNT_HINGE:
      low[at], high[at] = -np.pi, np.pi
  low, high = (jp.asarray(x, jp.float32) for x in (low, high))
  qpos = low + jax.random.uniform(rng, (m.nq,)) * (high - low)
  for at in m.jnt_qposadr[m.jnt_type == joint.mjJNT_FREE]:
    quaternion = qpos[at + 3 : at + 7]
    qpos = qpos.at[at + 3 : at + 7].set(quaternion / jp.linalg.norm(quaternion))
  return qpos
