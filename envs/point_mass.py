"""Planar point mass; mirrors `dm_control.suite.point_mass`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import rewards, suite

_PARALLEL = 0.9
"""Cosine above which two directions of actuation are too much alike."""

_GEAR = 0.1
"""Newtons that a control of 1 exerts."""


def make(task: str) -> 'PointMass':
  """Builds 'easy' or 'hard'."""
  return {'easy': PointMass, 'hard': RandomGains}[task]('point_mass', task)


class PointMass(suite.SuiteEnv):
  """Move the mass to the origin."""

  @override
  def initial(self, rng):
    return suite.Initial(self._random_joints(rng))

  @override
  def observe(self, data):
    return {'position': data.qpos, 'velocity': data.qvel}

  @override
  def reward(self, data):
    mass, target = (self.mj_model.geom(n) for n in ('pointmass', 'target'))
    size = float(target.size[0])
    near = rewards.tolerance(
      jp.linalg.norm(data.geom_xpos[target.id] - data.geom_xpos[mass.id]),
      bounds=(0.0, size),
      margin=size,
    )
    small_control = rewards.small_control(data.ctrl).mean()
    return near * (small_control + 4) / 5


class RandomGains(PointMass):
  """The same, when each control pushes in a direction of its own.

  The episode's parameter `gains` holds a unit vector for each control, `(4,)`.
  Stock changes the tendons that the motors pull. MJX keeps tendons fixed, so
  the motors push at a site here, along the same vectors.
  """

  @override
  def stock_xml(self):
    xml, assets = super().stock_xml()
    xml = xml.decode() if isinstance(xml, bytes) else xml
    mass = '<geom name="pointmass"'
    xml = xml.replace(mass, f'<site name="pointmass"/>{mass}')
    for name in ('t1', 't2'):
      motor = f'<motor name="{name}"'
      xml = xml.replace(
        f'{motor} tendon="{name}"/>',
        f'{motor} site="pointmass" gear="1 0 0 0 0 0"/>',
      )
    return xml, assets

  @override
  def initial(self, rng):
    joints_rng, first_rng, second_rng = jax.random.split(rng, 3)
    first = _direction(first_rng)

    def attempt(carry):
      rng, _ = carry
      rng, direction_rng = jax.random.split(rng)
      return rng, _direction(direction_rng)

    def parallel(carry):
      return jp.abs(jp.dot(first, carry[1])) > _PARALLEL

    _, second = jax.lax.while_loop(parallel, attempt, (second_rng, first))
    gains = jp.concatenate([first, second])
    return super().initial(joints_rng)._replace(params={'gains': gains})

  @override
  def default_params(self):
    return {'gains': jp.array([1.0, 0.0, 0.0, 1.0])}

  @override
  def model_at(self, params):
    gear = _GEAR * params['gains'].reshape(2, 2)
    return self.model.replace(
      actuator_gear=self.model.actuator_gear.at[:, :2].set(gear)
    )

  @override
  def read_params(self, physics):
    return {'gains': np.array(physics.model.wrap_prm)}

  @override
  def write_params(self, physics, params):
    if 'gains' in params:
      physics.model.wrap_prm[:] = params['gains']


def _direction(rng: jax.Array) -> jax.Array:
  """A random unit vector in the plane."""
  vector = jax.random.normal(rng, (2,))
  return vector / jp.linalg.norm(vector)
