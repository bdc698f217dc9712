"""Models of `models`, stepped in the order of stock dm_control.

`forward` and `step` are what stock's `Physics.after_reset` and
`Physics.step` do. They are jitted here, so that eager callers share one
compilation; inside another jit they are simply inlined.

MJX's `forward` is one function. Stock needs its two halves (`mj_step1`,
`mj_step2`), so this module calls the stages one by one: MJX's private ones, and
this package's where it has a better one. A test fails when upstream changes the
stages. Cameras are not moved, because no task observes one, and fields that no
later stage reads (`_unread`) keep the values that `put_model` gave them.
"""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import (
  contacts,
  dynamics,
  elimination,
  kinematics,
  newton,
  noslip,
  platforms,
  rays,
  rows,
  shortfalls,
)
from mjx_crossq.envs.mjx.models import Data, Model, mujoco

with runtime.quiet():
  from mujoco import mjx
  from mujoco.mjx._src import forward as mjx_forward
  from mujoco.mjx._src import passive as mjx_passive
  from mujoco.mjx._src import sensor as mjx_sensor
  from mujoco.mjx._src import smooth as mjx_smooth


def _like(data: Data, template: Data) -> Data:
  """Gives each array of `data` exactly the dtype of the template's."""
  return jax.tree.map(
    lambda x, t: jax.lax.convert_element_type(x, t.dtype), data, template
  )


_INTERMEDIATE = (
  'xanchor',
  'xaxis',
  '_impl.crb',
  '_impl.efc_pos',
  '_impl.efc_margin',
  '_impl.contact.solref',
  '_impl.contact.solreffriction',
  '_impl.contact.solimp',
)
"""Fields that nothing reads after the stage which computes them: keeping them
would cost an operation each in every physics step."""
_FOR_FORCES = (
  'cdof_dot',
  '_impl.contact.pos',
  '_impl.contact.frame',
  '_impl.contact.friction',
  '_impl.contact.includemargin',
  '_impl.contact.geom1',
  '_impl.contact.geom2',
)
"""Fields that only sensors of forces and the noslip pass read later."""


def _unread(model: Model) -> tuple[str, ...]:
  """The fields that no later stage of a model reads."""
  forces = model.sensor_needstage == mujoco.mjtStage.mjSTAGE_ACC
  if np.any(forces) or noslip.Settings.of(model).iterations:
    return _INTERMEDIATE
  return _INTERMEDIATE + _FOR_FORCES


def _kinematics(model: Model, data: Data) -> Data:
  """Poses: by MJX's walk over the tree on CPUs, else all bodies at once.

  The latter has a fifth of the operations, which is what an accelerator's time
  goes to, but XLA's CPU compiler makes slow code of it (docs/performance.md).
  """
  return platforms.by_platform(
    data,
    cpu=functools.partial(mjx_smooth.kinematics, model),
    default=functools.partial(kinematics.kinematics, model),
  )


def _position_velocity(model: Model, data: Data) -> Data:
  """Computes what follows from position and velocity: `mj_step1`.

  Only `_sensors` of them wait until after the last physics step.
  """
  unread = {name: operator.attrgetter(name)(data) for name in _unread(model)}
  data = _kinematics(model, data)
  data = dynamics.com_pos(model, data)
  data = mjx_smooth.tendon(model, data)
  data = dynamics.crb(model, data)
  data = mjx_smooth.tendon_armature(model, data)
  data = contacts.collision(model, data)
  data = rows.make_constraint(model, data)
  data = dynamics.transmission(model, data)
  data = data.tree_replace(
    {
      '_impl.actuator_velocity': data._impl.actuator_moment @ data.qvel,
      '_impl.ten_velocity': data._impl.ten_J @ data.qvel,
    }
  )
  data = dynamics.com_vel(model, data)
  data = mjx_passive.passive(model, data)
  data = dynamics.rne(model, data)
  data = mjx_smooth.tendon_bias(model, data)
  return data.tree_replace(unread)


def _sensors(model: Model, data: Data) -> Data:
  """Sensors of positions and velocities, which no physics step reads."""
  data = mjx_sensor.sensor_pos(model, data)
  data = mjx_sensor.sensor_vel(model, data)
  return rays.rangefinders(model, data)


def _acceleration(model: Model, data: Data) -> Data:
  """Computes accelerations and constraint forces, given actuator forces."""
  applied = data.qfrc_applied + dynamics.xfrc_accumulate(model, data)
  smooth = data.qfrc_passive - data.qfrc_bias + data.qfrc_actuator + applied
  data = data.replace(qfrc_smooth=smooth)
  unconstrained = data._impl.efc_J.size == 0
  if unconstrained or newton.begins_at_smooth(model):
    acceleration = elimination.solve_vector(data._impl.M, smooth)
    data = data.replace(qacc_smooth=acceleration)
  if unconstrained:
    return data.replace(qacc=data.qacc_smooth)
  data = newton.solve(model, data)
  return noslip.noslip(model, data, noslip.Settings.of(model))


def _euler(model: Model, data: Data) -> Data:
  """`mj_step2; mj_step1` with the semi-implicit Euler integrator."""
  data = mjx_forward.fwd_actuation(model, data)
  data = _acceleration(model, data)
  data = mjx_sensor.sensor_acc(model, data)
  qacc = data.qacc
  if not model.opt.disableflags & mjx.DisableBit.EULERDAMP:
    damping = jp.diag(model.opt.timestep * model.dof_damping)
    force = data.qfrc_smooth + data.qfrc_constraint
    qacc = elimination.solve_vector(data._impl.M + damping, force)
  data = mjx_forward._advance(model, data, data.act_dot, qacc)
  return _position_velocity(model, data)


def _runge_kutta(model: Model, data: Data) -> Data:
  """`mj_step; mj_step1` with the Runge-Kutta integrator of order 4.

  The four stages and the final update are one loop body, in which the next
  state is either the stage's or, after the last stage, the weighted sum's. It
  compiles in a third of the time of MJX's unrolled one and reuses the
  position stage that the data carry. As in C, acceleration sensors are those
  of the first stage, and the warm start changes with the last only.
  """
  start = data

  def stage(carry, x):
    data, velocity, acceleration = carry
    index, fraction, weight = x
    last = index == 3
    data = mjx_forward.fwd_actuation(model, data)
    data = _acceleration(model, data)
    sensed = mjx_sensor.sensor_acc(model, data).sensordata
    velocity += weight * data.qvel
    acceleration += weight * data.qacc
    origin = data.replace(qpos=start.qpos, qvel=start.qvel, time=start.time)
    end = mjx_forward._advance(
      model,
      origin,
      data.act_dot,
      jp.where(last, acceleration, fraction * data.qacc),
      jp.where(last, velocity, fraction * data.qvel),
    )
    end = end.replace(
      sensordata=jp.where(index == 0, sensed, data.sensordata),
      qacc_warmstart=jp.where(last, end.qacc_warmstart, start.qacc_warmstart),
    )
    end = _like(_position_velocity(model, end), start)
    return (end, velocity, acceleration), None

  zeros = jp.zeros_like(data.qvel)
  stages = (
    jp.arange(4),
    jp.array([1 / 2, 1 / 2, 1, 0], zeros.dtype),
    jp.array([1 / 6, 1 / 3, 1 / 3, 1 / 6], zeros.dtype),
  )
  (data, _, _), _ = jax.lax.scan(stage, (data, zeros, zeros), stages)
  return data


@jax.jit
def forward(model: Model, data: Data) -> Data:
  """What stock computes after a reset: `mj_forward` without actuation.

  Args:
    model: an MJX model.
    data: data with the wanted `qpos`, `qvel` and `act`.

  Returns:
    Data of the same structure and dtypes, in which everything belongs to that
    state.
  """
  with jax.default_matmul_precision('highest'):
    result = _position_velocity(model, data)
    result = result.replace(
      act_dot=jp.zeros_like(data.act_dot),
      qfrc_actuator=jp.zeros_like(data.qfrc_actuator),
      actuator_force=jp.zeros_like(data.actuator_force),
    )
    result = _acceleration(model, result)
    result = mjx_sensor.sensor_acc(model, result)
    result = _sensors(model, result)
  # Unlike C, MJX's kinematics normalise the quaternions.
  return _like(result, data).replace(qpos=data.qpos)


@functools.partial(jax.jit, static_argnames='substeps')
def step(model: Model, data: Data, ctrl: jax.Array, substeps: int) -> Data:
  """Stock's control step under constant control.

  Afterwards positions, velocities and their sensors belong to the new state;
  accelerations, constraint forces and their sensors are those of the last
  solve, half a step earlier.

  Args:
    model: an MJX model.
    data: data whose position and velocity stage is up to date, as `forward`
      and `step` leave them.
    ctrl: `(nu,)`, stock's units.
    substeps: physics steps in the control step.

  Returns:
    Data of the same structure and dtypes after the control step, with the
    step's `shortfalls`.

  Raises:
    NotImplementedError: another integrator than stock's two.
  """
  euler, rk4 = mjx.IntegratorType.EULER, mjx.IntegratorType.RK4
  if model.opt.integrator not in (euler, rk4):
    raise NotImplementedError(f'Integrator {model.opt.integrator!r}.')
  if model.opt.integrator == rk4 and model.na:
    raise NotImplementedError('Runge-Kutta with activations.')
  substep = _runge_kutta if model.opt.integrator == rk4 else _euler

  def body(_: Any, data: Data) -> Data:
    return _like(substep(model, data), data)

  with jax.default_matmul_precision('highest'):
    data = data.replace(ctrl=ctrl.astype(data.ctrl.dtype))
    data = shortfalls.cleared(data)
    if substeps == 1:
      data = body(0, data)
    else:
      # A loop compiles the body once, whatever the number of substeps.
      data = jax.lax.fori_loop(0, substeps, body, data)
    return _like(_sensors(model, data), data)


def poses(model: Model, data: Data) -> Data:
  """Poses of bodies, geoms and sites.

  Args:
    model: an MJX model.
    data: data of which only `qpos` (and mocap poses) are read.

  Returns:
    Data with these poses.
  """
  with jax.default_matmul_precision('highest'):
    return _kinematics(model, data)


def distance(model: Model, data: Data) -> jax.Array:
  """Distance of the two nearest geoms that may collide.

  Args:
    model: an MJX model with contacts.
    data: data of which only `qpos` (and mocap poses) are read.

  Returns:
    Scalar, metres; negative where geoms penetrate.
  """
  moved = poses(model, data)
  with jax.default_matmul_precision('highest'):
    collided: Data = contacts.collision(model, moved)
  contact = collided._impl.contact
  return jp.min(contact.dist - contact.includemargin)


def penetrates(model: Model, data: Data) -> jax.Array:
  """Whether any two geoms touch: stock's `physics.data.ncon > 0`.

  Args:
    model: an MJX model with contacts.
    data: data of which only `qpos` (and mocap poses) are read.

  Returns:
    Boolean scalar.
  """
  return distance(model, data) < 0


watch = shortfalls.of
"""What the last control step left out; see `shortfalls.of`."""
