"""Poses of all bodies at once, instead of level by level of their tree.

Each body's pose relative to its parent follows from its joints alone. Then each
pose is multiplied from the left by its parent's, which makes it relative to the
grandparent, then by the grandparent's, and so on: after round k a pose is
relative to the body 2^k levels above. Eight levels take three rounds. MJX
computes level after level, each in some twenty operations.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import topology, tree, vectors
from mjx_crossq.envs.mjx.vectors import Quaternion, Vector

with runtime.quiet():
  from mujoco.mjx._src.types import JointType

_MINVAL = 1e-15
"""C's `mjMINVAL`."""


class Pose(NamedTuple):
  """Poses, one an entry of the components' arrays.

  Attributes:
    rotation: of the frame.
    position: of its origin.
  """

  rotation: Quaternion
  position: Vector

  def take(self, index: np.ndarray) -> 'Pose':
    """The poses with these numbers."""
    return jax.tree.map(lambda x: x[index], self)

  def apply(self, other: 'Pose') -> 'Pose':
    """Poses given in these frames, expressed in the frame that these are in."""
    return Pose(
      vectors.multiply(self.rotation, other.rotation),
      vectors.add(self.position, vectors.rotate(self.rotation, other.position)),
    )


def _where(which: np.ndarray, x: Any, y: Any) -> Any:
  """Chooses by entry; constant where it is the same for all."""
  if which.all():
    return x
  return jax.tree.map(lambda a, b: jp.where(which, a, b), x, y)


def _normalised(model: Any, qpos: jax.Array) -> jax.Array:
  """Positions of joints with quaternions of length one."""
  for joint, kind in enumerate(model.jnt_type):
    if kind in (JointType.FREE, JointType.BALL):
      at = model.jnt_qposadr[joint] + (3 if kind == JointType.FREE else 0)
      quaternion = vectors.unit(vectors.split(qpos[at : at + 4]), _MINVAL)
      qpos = qpos.at[at : at + 4].set(vectors.join(*quaternion))
  return qpos


def _joint_motions(model: Any, qpos: jax.Array):
  """Each joint's rotation, displacement, and position if it is free."""
  kind = np.asarray(model.jnt_type)
  at = np.asarray(model.jnt_qposadr)
  hinge = kind == JointType.HINGE
  value = qpos[at] - model.qpos0[at]
  half = jp.where(hinge, value / 2, 0)
  axis = vectors.split(model.jnt_axis)
  sine = jp.sin(half)
  rotation = (jp.cos(half), *vectors.scale(axis, sine))
  free, ball = kind == JointType.FREE, kind == JointType.BALL
  if (free | ball).any():
    # Other joints' entries are read, from within the array, and not used.
    start = np.minimum(at + 3 * free, len(qpos) - 4)
    given = tuple(qpos[start + i] for i in range(4))
    rotation = _where(~(free | ball), rotation, given)
  slide = jp.where(kind == JointType.SLIDE, value, 0)
  place = tuple(qpos[np.minimum(at + i, len(qpos) - 1)] for i in range(3))
  return rotation, slide, place


def _relative(model: Any, data: Any, joints: np.ndarray):
  """Poses relative to the parents, and the joints' anchors and axes there."""
  pose = Pose(vectors.split(model.body_quat), vectors.split(model.body_pos))
  if model.nmocap:
    mocap = np.asarray(model.body_mocapid)
    given = Pose(
      vectors.unit(vectors.split(data.mocap_quat), _MINVAL),
      vectors.split(data.mocap_pos),
    )
    pose = _where(mocap < 0, pose, given.take(np.maximum(mocap, 0)))
  kind = np.asarray(model.jnt_type)
  anchors, axes = [], []
  rotation, slide, place = _joint_motions(model, data.qpos)
  for joint in joints:
    has = joint >= 0
    here = np.where(has, kind[joint], -1)
    free = here == JointType.FREE
    turns = np.isin(here, (JointType.HINGE, JointType.BALL))
    offset = vectors.split(model.jnt_pos[joint])
    anchor = vectors.add(pose.position, vectors.rotate(pose.rotation, offset))
    axis = vectors.rotate(pose.rotation, vectors.split(model.jnt_axis[joint]))
    turn, to = jax.tree.map(lambda x, j=joint: x[j], (rotation, place))
    turned = vectors.multiply(pose.rotation, turn)
    # An anchor off the origin stays where it is when the body turns.
    around = vectors.subtract(anchor, vectors.rotate(turned, offset))
    slid = vectors.add(pose.position, vectors.scale(axis, slide[joint]))
    moved = Pose(
      _where(~free, _where(~turns, pose.rotation, turned), turn),
      _where(~free, _where(~turns, slid, around), to),
    )
    zero, one = jp.zeros(()), jp.ones(())
    anchors.append(_where(~free, anchor, to))
    axes.append(_where(~free, axis, (zero, zero, one)))
    pose = _where(has, moved, pose)
  return pose, anchors, axes


def kinematics(model: Any, data: Any) -> Any:
  """Poses of bodies, geoms and sites, and the joints' anchors and axes.

  Source: `mj_kinematics` in `engine_core_smooth.c` of MuJoCo 3.17.

  Args:
    model: an MJX model.
    data: data of which only `qpos` and mocap poses are read.

  Returns:
    Data with these poses, and with quaternions of length one in `qpos`.
  """
  tables = topology.of(model)
  data = data.replace(qpos=_normalised(model, data.qpos))
  pose, anchors, axes = _relative(model, data, tables.joints)
  pose = tree.apart(pose)
  parent = np.asarray(model.body_parentid)
  jump = parent
  reach = 1
  while reach < tables.depth:
    pose = tree.apart(pose.take(jump).apply(pose))
    jump, reach = jump[jump], 2 * reach
  if model.njnt:
    # By joint instead of by body, and from the parent's frame to the world's.
    slot, body = np.nonzero(tables.joints >= 0)
    order = np.argsort(tables.joints[slot, body])
    flat = (slot * model.nbody + body)[order]

    def by_joint(slots: list[Any]) -> Any:
      wide = jax.tree.map(lambda x: jp.broadcast_to(x, model.nbody), slots)
      return jax.tree.map(lambda *x: jp.concatenate(x)[flat], *wide)

    anchor, axis = by_joint(anchors), by_joint(axes)
    above = pose.take(parent[np.asarray(model.jnt_bodyid)])
    anchor = vectors.add(above.position, vectors.rotate(above.rotation, anchor))
    axis = vectors.rotate(above.rotation, axis)
    data = data.replace(
      xanchor=vectors.join(*anchor), xaxis=vectors.join(*axis)
    )
  data = data.replace(
    xpos=vectors.join(*pose.position),
    xquat=vectors.join(*pose.rotation),
    xmat=vectors.join_matrix(vectors.matrix(pose.rotation)),
  )
  for kind, name, bodies in (
    ('body_i', 'xi', np.arange(model.nbody)),
    ('geom_', 'geom_x', np.asarray(model.geom_bodyid)),
    ('site_', 'site_x', np.asarray(model.site_bodyid)),
  ):
    if len(bodies):
      local = Pose(
        vectors.split(getattr(model, f'{kind}quat')),
        vectors.split(getattr(model, f'{kind}pos')),
      )
      placed = pose.take(bodies).apply(local)
      data = data.replace(
        **{
          f'{name}pos': vectors.join(*placed.position),
          f'{name}mat': vectors.join_matrix(vectors.matrix(placed.rotation)),
        }
      )
  return data
