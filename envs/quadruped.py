"""Quadruped; mirrors `dm_control.suite.quadruped`."""

import jax
import jax.numpy as jp
import numpy as np
from scipy import ndimage
from typing_extensions import override

from mjx_crossq.envs import initial_states as resets
from mjx_crossq.envs import rewards, suite
from mjx_crossq.envs.mjx import models, physics

_SPEEDS = {'walk': 0.5, 'run': 5.0}
"""Forward speeds, metres per second, above which the reward is full."""
_TIME_LIMIT = 20
"""Seconds; stock's floor is as large as a perfect run is long."""
_HEIGHT_STEP = 0.01
"""Metres by which stock lifts the robot until it touches nothing."""

_ROUNDING = 1e-7
"""Rounding error, in metres, of float32 positions at the robot's size."""
_BUMP_SIZE, _LEAST_BUMP = 2, 0.15
"""Metres between the terrain's bumps, and the height of the least."""
_CLEARANCE = 1e-6
"""Metres above the floor, added to the initial height."""
_BALL_HEIGHT = 2.0
"""Metres from which the ball falls."""
_SPAWN = 0.9
"""Share of the floor on which robot and ball begin."""


def make(task: str) -> 'Quadruped':
  """Builds 'walk', 'run', 'escape' or 'fetch'."""
  return {'escape': Escape, 'fetch': Fetch}.get(task, Move)(task)


class Quadruped(suite.SuiteEnv):
  """Observations, resets and the upright reward that all tasks share."""

  from_solve = ('imu', 'force_torque')
  clear_resets = True

  def _upright_reward(self, data, deviation: float = 0.0) -> jax.Array:
    """1 if the torso is within `deviation` degrees of upright, 0 inverted."""
    cosine = float(np.cos(np.deg2rad(deviation)))
    return rewards.at_least(
      data.xmat[self.mj_model.body('torso').id, 2, 2], cosine, margin=1 + cosine
    )

  def _turned(self, rng: jax.Array) -> suite.Initial:
    """The default pose in a random orientation, around the origin."""
    quaternion = jax.random.normal(rng, (4,))
    qpos = jp.asarray(self.mj_model.qpos0, jp.float32)
    quaternion /= jp.linalg.norm(quaternion)
    return suite.Initial(qpos.at[3:7].set(quaternion))

  def _lift(self, initial: suite.Initial) -> suite.Initial:
    """Raises the robot as stock does, to the first height without contact.

    The robot can only touch a flat floor, so the height by which it must be
    raised is the depth of its deepest contact at height 0.
    """
    qpos = initial.qpos.at[2].set(0)
    embedded = self.place(initial._replace(qpos=qpos))
    depth = -physics.distance(self.model, embedded)
    # Round up: a depth that is nearly a whole number of steps needs one more.
    steps = jp.ceil(jp.maximum(depth + _ROUNDING, 0) / _HEIGHT_STEP)
    return initial._replace(qpos=qpos.at[2].set(steps * _HEIGHT_STEP))

  @override
  def observe(self, data):
    m, enum = self.mj_model, models.mujoco.mjtSensor
    hinges = m.jnt_type == models.mujoco.mjtJoint.mjJNT_HINGE
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


class Move(Quadruped):
  """Move forward at the task's speed."""

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._speed = _SPEEDS[task]
    super().__init__('quadruped', task)

  @override
  def stock_xml(self):
    xml = suite.import_stock('quadruped').make_model(
      floor_size=_TIME_LIMIT * self._speed
    )
    return xml, suite.import_stock('common').ASSETS

  @override
  def initial(self, rng):
    return self._lift(self._turned(rng))

  @override
  def reward(self, data):
    move = rewards.at_least(
      self._sensor(data, 'velocimeter')[0],
      self._speed,
      margin=self._speed,
      value_at_margin=0.5,
    )
    return self._upright_reward(data) * move


class Escape(Quadruped):
  """Get out of a bowl whose ground differs from episode to episode.

  The episode's parameter `terrain` holds the heights of the ground, by row, in
  units of the height field's height.
  """

  warp_unfaithful = (
    'Warp keeps four contacts of a part with the terrain, C all of them: 1 % '
    'of velocities are off by more than 0.1 after one physics step'
  )

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    super().__init__('quadruped', task)
    m = self.mj_model
    self._radius = float(m.hfield_size[0, 0])
    grid = np.linspace(-1, 1, m.hfield_nrow[0])
    radius = np.clip(np.hypot(*np.meshgrid(grid, grid)), 0.04, 1)
    self._bowl = np.float32((1 - np.cos(2 * np.pi * radius)) / 2)
    # Stock's spline is linear in the bumps, and the same along both axes.
    count = int(2 * self._radius / _BUMP_SIZE)
    self._spline = np.array(
      [ndimage.zoom(row, len(grid) / count) for row in np.eye(count)],
      np.float32,
    )

  @override
  def stock_xml(self):
    xml = suite.import_stock('quadruped').make_model(
      floor_size=40, terrain=True, rangefinders=True
    )
    return xml, suite.import_stock('common').ASSETS

  @override
  def stock_env(self, seed):
    env = super().stock_env(seed)
    initialize = env.task.initialize_episode

    # Stock creates a renderer here, which fails on machines without a display.
    def without_renderer(physics):
      physics._make_rendering_contexts = lambda: None
      try:
        initialize(physics)
      finally:
        del physics._make_rendering_contexts

    env.task.initialize_episode = without_renderer
    return env

  @override
  def initial(self, rng):
    bump_rng, turn_rng = jax.random.split(rng)
    count = len(self._spline)
    bumps = jax.random.uniform(bump_rng, (count, count), minval=_LEAST_BUMP)
    with jax.default_matmul_precision('highest'):
      terrain = self._bowl * (self._spline.T @ bumps @ self._spline)
    initial = self._turned(turn_rng)
    initial = initial._replace(params={'terrain': terrain.ravel()})
    model = self.model_at({'terrain': terrain.ravel()})

    def lifted(steps: jax.Array) -> suite.Initial:
      height = steps * _HEIGHT_STEP
      return initial._replace(qpos=initial.qpos.at[2].set(height))

    def touches(steps: jax.Array) -> jax.Array:
      touch = self.physics.penetrates(model, self.place(lifted(steps)))
      return touch & (steps < resets.MAX_DRAWS)

    zero = jp.zeros((), jp.int32)
    return lifted(jax.lax.while_loop(touches, lambda x: x + 1, zero))

  @override
  def default_params(self):
    return {'terrain': self.model.hfield_data}

  @override
  def model_at(self, params):
    terrain = params.get('terrain', self.model.hfield_data)
    return self.model.replace(hfield_data=terrain)

  @override
  def read_params(self, physics):
    return {'terrain': np.array(physics.model.hfield_data)}

  @override
  def write_params(self, physics, params):
    if 'terrain' in params:
      physics.model.hfield_data[:] = params['terrain']

  @override
  def observe(self, data):
    torso = self.mj_model.body('torso').id
    ranges = self._sensors(data, models.mujoco.mjtSensor.mjSENS_RANGEFINDER)
    return super().observe(data) | {
      'origin': -data.xpos[torso] @ data.xmat[torso],
      # A reading of -1 means that the ray hits nothing.
      'rangefinder': jp.where(ranges == -1, 1.0, jp.tanh(ranges)),
    }

  @override
  def reward(self, data):
    workspace = data.site_xpos[self.mj_model.site('workspace').id]
    escape = rewards.at_least(
      jp.linalg.norm(workspace), self._radius, margin=self._radius
    )
    return self._upright_reward(data, deviation=20) * escape


class Fetch(Quadruped):
  """Bring the ball to the target."""

  # The ball may fall onto a wall or the robot.
  clear_resets = False

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
    # The robot starts level, so stock lifts it to the same height everywhere:
    # 1e-16 m above the floor. float32 needs a larger clearance.
    stock = self.stock_env(seed=0)
    stock.reset()
    self._height = float(stock.physics.data.qpos[2]) + _CLEARANCE

  @override
  def stock_xml(self):
    xml = suite.import_stock('quadruped').make_model(walls_and_ball=True)
    return xml, suite.import_stock('common').ASSETS

  @override
  def initial(self, rng):
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
    """Positions of ball and target, `(3,)` each, metres."""
    m = self.mj_model
    return data.xpos[m.body('ball').id], data.site_xpos[m.site('target').id]

  @override
  def observe(self, data):
    torso = self.mj_model.body('torso').id
    frame, origin = data.xmat[torso], data.xpos[torso]
    ball, goal = self._positions(data)
    qvel = data.qvel[self._ball_qvel + np.arange(6)]
    state = jp.stack([ball - origin, qvel[:3] - data.qvel[:3], qvel[3:]])
    return super().observe(data) | {
      'ball_state': state @ frame,
      'target_position': (goal - origin) @ frame,
    }

  @override
  def reward(self, data):
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
