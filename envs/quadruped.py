"""Quadruped; mirrors `dm_control.suite.quadruped`."""

import jax
import jax.numpy as jp
import numpy as np

from envs import physics, rewards, suite

_SPEEDS = {'walk': 0.5, 'run': 5.0}
"""Forward speeds, metres per second, above which the reward is full."""
_TIME_LIMIT = 20
"""Seconds; stock's floor is as large as a perfect run is long."""
_HEIGHT_STEP = 0.01
"""Metres by which stock lifts the robot until it touches nothing."""

_ROUNDING = 1e-7
"""Metres; float32's at the size of the robot."""
_CLEARANCE = 1e-6
"""Metres."""
_BALL_HEIGHT = 2.0
"""Metres from which the ball falls."""
_SPAWN = 0.9
"""Share of the floor on which robot and ball begin."""


def make(task: str) -> 'Quadruped':
  """Builds 'walk', 'run' or 'fetch'."""
  return Fetch(task) if task == 'fetch' else Move(task)


class Quadruped(suite.SuiteEnv):
  """What the tasks share."""

  from_solve = ('imu', 'force_torque')
  clear_resets = True

  def _upright_reward(self, data) -> jax.Array:
    """1 when the torso is upright, 0 when it is upside down."""
    return rewards.tolerance(
      data.xmat[self.mj_model.body('torso').id, 2, 2],
      bounds=(1.0, float('inf')),
      sigmoid='linear',
      margin=2,
      value_at_margin=0,
    )

  def _lift(self, initial: suite.Initial) -> suite.Initial:
    """Raises the robot as stock does, to the first height without contact.

    A floor is what it can touch, so that a contact's depth at height 0 is what
    the robot must be raised by.
    """
    qpos = initial.qpos.at[2].set(0)
    embedded = self.place(initial._replace(qpos=qpos))
    depth = -physics.distance(self.model, embedded)
    # A depth within rounding of a whole number of steps needs one more.
    steps = jp.ceil(jp.maximum(depth + _ROUNDING, 0) / _HEIGHT_STEP)
    return initial._replace(qpos=qpos.at[2].set(steps * _HEIGHT_STEP))

  def observe(self, data):
    """See base class."""
    m, enum = self.mj_model, physics.mujoco.mjtSensor
    hinges = m.jnt_type == physics.mujoco.mjtJoint.mjJNT_HINGE
    torso = m.body('torso').id
    frame = data.xmat[torso]
    return {
      'egocentric_state': jp.concatenate(
        [
          data.qpos[m.jnt_qposadr[hinges]],
          data.qvel[m.jnt_dofadr[hinges]],
          data.act,
        ]
      ),
      'torso_velocity': self._sensor(data, 'velocimeter'),
      'torso_upright': frame[2, 2],
      'imu': self._sensors(data, enum.mjSENS_GYRO, enum.mjSENS_ACCELEROMETER),
      'force_torque': jp.arcsinh(
        self._sensors(data, enum.mjSENS_FORCE, enum.mjSENS_TORQUE)
      ),
    }

  def _sensors(self, data, *kinds) -> jax.Array:
    """All sensors of some kinds, in the model's order."""
    m = self.mj_model
    wanted = np.isin(m.sensor_type, [int(kind) for kind in kinds])
    names = [m.sensor(i).name for i in np.flatnonzero(wanted)]
    return self._sensor(data, *names)


class Move(Quadruped):
  """Move forward at the task's speed."""

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._speed = _SPEEDS[task]
    super().__init__('quadruped', task)

  def stock_xml(self):
    """See base class."""
    xml = suite.import_stock('quadruped').make_model(
      floor_size=_TIME_LIMIT * self._speed
    )
    return xml, suite.import_stock('common').ASSETS

  def initial(self, rng):
    """See base class."""
    quaternion = jax.random.normal(rng, (4,))
    qpos = jp.asarray(self.mj_model.qpos0, jp.float32)
    return self._lift(
      suite.Initial(qpos.at[3:7].set(quaternion / jp.linalg.norm(quaternion)))
    )

  def reward(self, data):
    """See base class."""
    move = rewards.tolerance(
      self._sensor(data, 'velocimeter')[0],
      bounds=(self._speed, float('inf')),
      margin=self._speed,
      value_at_margin=0.5,
      sigmoid='linear',
    )
    return self._upright_reward(data) * move


class Fetch(Quadruped):
  """Bring the ball to the target."""

  # The ball falls on walls and robots alike.
  clear_resets = False
  unfaithful = (
    "MJX's contacts of the ball with the torso, an ellipsoid, are not C's"
  )

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    super().__init__('quadruped', task)
    m = self.mj_model
    self._floor = float(m.geom('floor').size[0])
    self._reach = float(m.site('workspace').size[0] + m.geom('ball').size[0])
    self._target_radius = float(m.site('target').size[0])
    self._ball_qpos = m.joint('ball_root').qposadr[0]
    self._ball_qvel = m.joint('ball_root').dofadr[0]
    # Level, the robot is lifted to the same height everywhere: in stock to
    # 1e-16 m above the floor, which float32 needs some more for.
    stock = self.stock_env(seed=0)
    stock.reset()
    self._height = float(stock.physics.data.qpos[2]) + _CLEARANCE

  def stock_xml(self):
    """See base class."""
    xml = suite.import_stock('quadruped').make_model(walls_and_ball=True)
    return xml, suite.import_stock('common').ASSETS

  def initial(self, rng):
    """See base class."""
    turn_rng, place_rng, ball_rng, velocity_rng = jax.random.split(rng, 4)
    half = jax.random.uniform(turn_rng, maxval=jp.pi)
    quaternion = jp.stack([jp.cos(half), 0.0, 0.0, jp.sin(half)])
    spawn = _SPAWN * self._floor
    place = jax.random.uniform(place_rng, (2,), minval=-spawn, maxval=spawn)
    qpos = jp.asarray(self.mj_model.qpos0, jp.float32)
    place = jp.append(place, self._height)
    qpos = qpos.at[:3].set(place).at[3:7].set(quaternion)
    place = jax.random.uniform(ball_rng, (2,), minval=-spawn, maxval=spawn)
    ball = jp.append(place, _BALL_HEIGHT)
    at = self._ball_qpos + np.arange(3)
    velocity = 5 * jax.random.normal(velocity_rng, (2,))
    qvel = jp.zeros(self.mj_model.nv)
    qvel = qvel.at[self._ball_qvel + np.arange(2)].set(velocity)
    return suite.Initial(qpos.at[at].set(ball), qvel)

  def _positions(self, data) -> tuple[jax.Array, jax.Array]:
    """Of ball and target, metres."""
    m = self.mj_model
    return data.xpos[m.body('ball').id], data.site_xpos[m.site('target').id]

  def observe(self, data):
    """See base class."""
    torso = self.mj_model.body('torso').id
    frame, origin = data.xmat[torso], data.xpos[torso]
    ball, goal = self._positions(data)
    qvel = data.qvel[self._ball_qvel + np.arange(6)]
    state = jp.stack([ball - origin, qvel[:3] - data.qvel[:3], qvel[3:]])
    return super().observe(data) | {
      'ball_state': state @ frame,
      'target_position': (goal - origin) @ frame,
    }

  def reward(self, data):
    """See base class."""
    ball, goal = self._positions(data)
    workspace = data.site_xpos[self.mj_model.site('workspace').id]
    near, fetched = (
      rewards.tolerance(
        jp.linalg.norm((end - ball)[:2]),
        bounds=(0.0, enough),
        sigmoid='linear',
        margin=self._floor * np.sqrt(2),
        value_at_margin=0,
      )
      for end, enough in ((workspace, self._reach), (goal, self._target_radius))
    )
    return self._upright_reward(data) * near * (1 + fetched) / 2
