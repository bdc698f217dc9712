"""Planar manipulator; mirrors `dm_control.suite.manipulator`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import manipulation, rewards, suite
from mjx_crossq.envs.mjx import physics

_P_IN_HAND = 0.1
_P_IN_TARGET = 0.1
"""Probabilities that the object begins in the hand, or where it should go."""


def make(task: str) -> 'Bring':
  """Builds 'bring_ball', 'bring_peg', 'insert_ball' or 'insert_peg'."""
  return Bring(task)


class Bring(manipulation.Arm):
  """Bring an object to a target that every episode puts elsewhere.

  The episode's parameters are the target's `target` position `(x, z)` in metres
  and its `turn`, the half angle's `(cos, sin)`.
  """

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    action, self._object = task.split('_')
    self._insert = action == 'insert'
    moved = [f'target_{self._object}']
    if self._insert:
      moved.append({'peg': 'slot', 'ball': 'cup'}[self._object])
    super().__init__('manipulator', task)
    # Bodies that are where the target is.
    self._moved = moved
    self._moved_ids = np.array([self.mj_model.body(name).id for name in moved])

  @override
  def stock_xml(self):
    return suite.import_stock('manipulator').make_model(
      self._object == 'peg', self._insert
    )

  def _joints(self) -> list[str]:
    return [f'{self._object}_{axis}' for axis in 'xzy']

  @override
  def initial(self, rng):

    # Stock redraws everything but the object's velocity, which the last draw
    # that set one leaves.
    def draw(rng: jax.Array, last: suite.Initial) -> suite.Initial:
      qvel: jax.Array = last.qvel  # pyright: ignore
      return self._draw(rng, qvel)

    start = suite.Initial(
      jp.asarray(self.mj_model.qpos0, jp.float32),
      jp.zeros(self.mj_model.nv),
      params=self.default_params(),
    )
    return self._without_contact(rng, draw, start)

  def _draw(self, rng: jax.Array, qvel: jax.Array) -> suite.Initial:
    """Draws one candidate for the initial state."""
    keys = jax.random.split(rng, 6)
    qpos = self._random_arm(
      keys[0], jp.asarray(self.mj_model.qpos0, jp.float32)
    )
    low, high = jp.array([-0.4, 0.1]), jp.array([0.4, 0.4])
    target = jax.random.uniform(keys[1], (2,), minval=low, maxval=high)
    limit = jp.pi / 3 if self._insert else jp.pi
    angle = jax.random.uniform(keys[2], minval=-limit, maxval=limit)
    params = {
      'target': target,
      'turn': jp.stack([jp.cos(angle / 2), jp.sin(angle / 2)]),
    }
    low, high = jp.array([-0.5, 0.0, 0.0]), jp.array([0.5, 0.7, 2 * jp.pi])
    free = jax.random.uniform(keys[3], (3,), minval=low, maxval=high)
    arm = physics.poses(self.model, self.place(suite.Initial(qpos)))
    grasp = self.mj_model.site('grasp').id
    direction = arm.site_xmat[grasp]
    in_hand = jp.stack(
      [
        arm.site_xpos[grasp, 0],
        arm.site_xpos[grasp, 2],
        jp.pi - jp.arctan2(direction[2, 0], direction[0, 0]),
      ]
    )
    in_target = jp.append(target, angle)
    chance = jax.random.uniform(keys[4])
    held, placed = chance < _P_IN_HAND, chance < _P_IN_HAND + _P_IN_TARGET
    pose = jp.where(held, in_hand, jp.where(placed, in_target, free))
    qpos = qpos.at[self._qpos_at(*self._joints())].set(pose)
    speed = jax.random.uniform(keys[5], minval=-5, maxval=5)
    at = self._qvel_at(f'{self._object}_x')[0]
    qvel = qvel.at[at].set(jp.where(placed, qvel[at], speed))
    return suite.Initial(qpos, qvel, params=params)

  @override
  def default_params(self):
    xz = np.array([0, 2])
    body = self._moved_ids[0]
    return {
      'target': self.model.body_pos[body, xz],
      'turn': self.model.body_quat[body, xz],
    }

  @override
  def model_at(self, params):
    ids, xz = self._moved_ids[:, None], np.array([0, 2])
    model = self.model
    return model.replace(
      body_pos=model.body_pos.at[ids, xz].set(params['target']),
      body_quat=model.body_quat.at[ids, xz].set(params['turn']),
    )

  @override
  def read_params(self, physics):
    model = physics.named.model
    return {
      'target': np.array(model.body_pos[self._moved[0], ['x', 'z']]),
      'turn': np.array(model.body_quat[self._moved[0], ['qw', 'qy']]),
    }

  @override
  def write_params(self, physics, params):
    if not params:
      return
    for name in self._moved:
      physics.named.model.body_pos[name, ['x', 'z']] = params['target']
      physics.named.model.body_quat[name, ['qw', 'qy']] = params['turn']

  @override
  def observe(self, data):
    return self._observe_arm(data) | {
      'hand_pos': self._pose(data, 'hand'),
      'object_pos': self._pose(data, self._object),
      'object_vel': data.qvel[self._qvel_at(*self._joints())],
      'target_pos': self._pose(data, self._moved[0]),
    }

  def _close(self, data, first: str, second: str) -> jax.Array:
    """Reward that is 1 where two sites are close."""
    close = manipulation.CLOSE
    distance = self._site_distance(data, first, second)
    return rewards.tolerance(distance, (0.0, close), 2 * close)

  @override
  def reward(self, data):
    if self._object == 'ball':
      return self._close(data, 'ball', 'target_ball')
    grasp = self._close(data, 'peg_grasp', 'grasp')
    pinch = self._close(data, 'peg_pinch', 'pinch')
    bring = self._close(data, 'peg', 'target_peg')
    bring_tip = self._close(data, 'target_peg_tip', 'peg_tip')
    return jp.maximum((bring + bring_tip) / 2, (grasp + pinch) / 6)
