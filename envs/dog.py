"""Dog; mirrors `dm_control.suite.dog`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import rewards, suite
from mjx_crossq.envs.mjx import models

_SPEEDS = {'stand': 0.0, 'walk': 1.0, 'trot': 3.0, 'run': 9.0, 'fetch': 0.0}
"""Forward speeds, metres per second, above which the reward is full."""
_TIME_LIMIT = 15
"""Seconds; stock's floor is as large as a perfect run is long."""
_UPRIGHT_COSINE = float(np.cos(np.deg2rad(30)))
_STAND_FRACTION = 0.9
"""Share of the default pose's heights that counts as standing."""
_UPRIGHT_BODIES = ('skull', 'torso', 'pelvis')
_INERTIAL = ('accelerometer', 'velocimeter', 'gyro')
_FORCES = ('foot_L', 'foot_R', 'hand_L', 'hand_R')
_TOUCH = ('palm_L', 'palm_R', 'sole_L', 'sole_R')


def make(task: str) -> 'Dog':
  """Builds 'stand', 'walk', 'trot', 'run' or 'fetch'."""
  return Fetch(task) if task == 'fetch' else Dog(task)


class Dog(suite.SuiteEnv):
  """Stand, or move forward at the task's speed."""

  from_solve = ('inertial_sensors', 'foot_forces', 'touch_sensors')

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._speed = _SPEEDS[task]
    super().__init__('dog', task)
    m = self.mj_model
    self._stand_heights = _STAND_FRACTION * np.asarray(
      self._heights(self._data)
    )
    mass = m.body('torso').subtreemass[0]
    self._weight = float(-m.opt.gravity[2] * mass)

  @override
  def stock_xml(self):
    # In stock, 'stand' has the same floor as 'walk'.
    size = _TIME_LIMIT * max(1.0, self._speed)
    return suite.import_stock('dog').get_model_and_assets(size)

  @override
  def initial(self, rng):
    turn_rng, velocity_rng, act_rng = jax.random.split(rng, 3)
    half = jax.random.uniform(turn_rng, maxval=jp.pi)
    quaternion = jp.stack([jp.cos(half), 0.0, 0.0, jp.sin(half)])
    qpos = jp.asarray(self.mj_model.qpos0, jp.float32).at[3:7].set(quaternion)
    # Along x and y, and around z.
    velocity = 2 * jax.random.normal(velocity_rng, (3,))
    qvel = jp.zeros(self.mj_model.nv).at[np.array([0, 1, 5])].set(velocity)
    low, high = jp.asarray(self.mj_model.actuator_ctrlrange, jp.float32).T
    act = jax.random.uniform(act_rng, low.shape, minval=low, maxval=high)
    return suite.Initial(qpos, qvel, act)

  def _heights(self, data) -> jax.Array:
    """Heights of torso and pelvis, `(2,)`, metres."""
    m = self.mj_model
    return data.xpos[np.array([m.body(n).id for n in ('torso', 'pelvis')]), 2]

  def _vertical(self, data) -> jax.Array:
    """The vertical in the frames of skull, torso and pelvis, `(3, 3)`."""
    m = self.mj_model
    return data.xmat[np.array([m.body(n).id for n in _UPRIGHT_BODIES]), 2]

  def _velocity(self, data) -> jax.Array:
    """Velocity of the centre of mass in the torso's frame, `(3,)`, m/s."""
    frame = data.xmat[self.mj_model.body('torso').id]
    return self._sensor(data, 'torso_linvel') @ frame

  @override
  def observe(self, data):
    m = self.mj_model
    hinges = m.jnt_type == models.mujoco.mjtJoint.mjJNT_HINGE
    return {
      'joint_angles': data.qpos[m.jnt_qposadr[hinges]],
      'joint_velocites': data.qvel[m.jnt_dofadr[hinges]],
      'torso_pelvis_height': self._heights(data),
      'z_projection': self._vertical(data),
      'torso_com_velocity': self._velocity(data),
      'inertial_sensors': self._sensor(data, *_INERTIAL),
      'foot_forces': self._sensor(data, *_FORCES),
      'touch_sensors': self._sensor(data, *_TOUCH),
      'actuator_state': data.act,
    }

  @override
  def reward(self, data):
    factors = []
    for height, enough in zip(
      self._heights(data), self._stand_heights, strict=True
    ):
      enough = float(enough)
      factors.append(
        rewards.tolerance(height, (enough, float('inf')), margin=enough)
      )
    upright = rewards.at_least(
      self._vertical(data)[:, 2], _UPRIGHT_COSINE, margin=_UPRIGHT_COSINE + 1
    )
    touch = rewards.at_least(
      self._sensor(data, *_TOUCH).sum(),
      self._weight,
      margin=self._weight,
      value_at_margin=0.9,
    )
    factors += [upright.prod(), touch]
    if self._speed:
      forward = rewards.tolerance(
        self._velocity(data)[0],
        bounds=(self._speed, 2 * self._speed),
        margin=max(1.0, self._speed),
        value_at_margin=0,
        sigmoid='linear',
      )
      factors.append((4 * forward + 1) / 5)
    return jp.prod(jp.stack(factors))


class Fetch(Dog):
  """Fetch a ball that is thrown in."""

  @override
  def stock_xml(self):
    return suite.import_stock('dog').get_model_and_assets(remove_ball=False)

  @override
  def initial(self, rng):
    dog_rng, *keys = jax.random.split(rng, 5)
    initial = super().initial(dog_rng)
    m = self.mj_model
    azimuth = jax.random.uniform(keys[0], maxval=2 * jp.pi)
    outward = jp.stack([jp.sin(azimuth), jp.cos(azimuth)])
    radius = 0.75 * m.geom('floor').size[0]
    position = jp.append(radius * outward, 0.05)
    height = jax.random.uniform(keys[1], maxval=3.0)
    speed = jax.random.uniform(keys[2], maxval=5.0)
    direction = 0.05 * jax.random.normal(keys[3], (2,)) - outward
    upward = jp.sqrt(-2 * m.opt.gravity[2] * height)
    velocity = jp.append(speed * direction, upward)
    joint, xyz = m.joint('ball_root'), np.arange(3)
    qvel: jax.Array = initial.qvel  # pyright: ignore
    return initial._replace(
      qpos=initial.qpos.at[joint.qposadr[0] + xyz].set(position),
      qvel=qvel.at[joint.dofadr[0] + xyz].set(velocity),
    )

  def _position(self, data, name: str) -> jax.Array:
    """Position of the ball or target, `(3,)`, metres."""
    return data.geom_xpos[self.mj_model.geom(name).id]

  def _head(self, data) -> tuple[jax.Array, jax.Array]:
    """Position `(3,)`, metres, and frame `(3, 3)` of the head."""
    head = self.mj_model.site('head').id
    return data.site_xpos[head], data.site_xmat[head]

  def _point_velocity(self, data, body: int, point: jax.Array) -> jax.Array:
    """Velocity of a point of a body, `(3,)`, metres per second."""
    # A body's spatial velocity is given at its tree's centre of mass.
    centre = data.subtree_com[self.mj_model.body_rootid[body]]
    angular, linear = data.cvel[body, :3], data.cvel[body, 3:]
    return linear + jp.cross(angular, point - centre)

  @override
  def observe(self, data):
    m = self.mj_model
    head, frame = self._head(data)
    ball = self._position(data, 'ball')
    velocity = self._point_velocity(data, m.body('ball').id, ball)
    velocity -= self._point_velocity(data, m.site('head').bodyid[0], head)
    return super().observe(data) | {
      'ball_state': jp.append((ball - head) @ frame, velocity @ frame),
      'target_position': (self._position(data, 'target') - head) @ frame,
    }

  @override
  def reward(self, data):
    m = self.mj_model
    ball, goal = (self._position(data, name) for name in ('ball', 'target'))
    bites = [m.site(f'{jaw}_bite').id for jaw in ('upper', 'lower')]
    to_mouth = jp.linalg.norm(ball - data.site_xpos[np.array(bites)], axis=1)
    reach = rewards.tolerance(
      to_mouth.mean(),
      bounds=(0.0, float(m.site('upper_bite').size[0])),
      sigmoid='reciprocal',
      margin=2,
    )
    reach = (6 * reach + 1) / 7
    to_goal, radius = jp.linalg.norm(ball - goal), m.geom('target').size[0]
    fetched = rewards.tolerance(
      to_goal,
      bounds=(0.0, float(radius)),
      sigmoid='reciprocal',
      margin=float(m.geom('floor').size[0]),
    )
    # Once the ball is at the target, the dog need not hold it any longer.
    reach = jp.where(to_goal < 2 * radius, 1.0, reach)
    return super().reward(data) * reach * (fetched + 1) / 2
