"""The model's edits and MJX's private parts."""

import inspect
import re

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest

from mjx_crossq import envs
from mjx_crossq.envs import base
from mjx_crossq.envs.initial_states import Initial
from mjx_crossq.envs.mjx import models, physics

from . import checks

_COLLIDE = ('type', 'affinity')
_DOMAINS = sorted({task.split('-')[0] for task in envs.ALL_TASKS})


def _task(domain):
  return next(t for t in envs.ALL_TASKS if t.split('-')[0] == domain)


def _differing(ours, stock):
  """Names of public attributes in which two MuJoCo structs differ."""
  names = set()
  for name in dir(stock):
    value = getattr(stock, name)
    if name.startswith('_') or callable(value):
      continue
    if isinstance(value, (int, float, np.ndarray, bytes)):
      other = getattr(ours, name)
      if np.shape(other) != np.shape(value) or not np.array_equal(other, value):
        names.add(name)
  return names


@pytest.mark.parametrize('domain', _DOMAINS)
def test_only_the_named_edits_are_made(domain):
  env = checks.load(_task(domain))
  ours = env.mj_model
  stock = env.stock_env(0).physics.model.ptr
  settings = models.SETTINGS.get(domain, models.Settings())

  expected = {'jacobian'}
  if settings.tolerance > stock.opt.tolerance:
    expected |= {'tolerance'}
  if stock.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_ENERGY):
    expected |= {'enableflags'}
  if settings.iterations is not None:
    expected |= {'iterations'}
  if not settings.warmstart:
    expected |= {'disableflags'}
  assert _differing(ours.opt, stock.opt) == expected
  energy = int(mujoco.mjtEnableBit.mjENBL_ENERGY)
  assert ours.opt.enableflags == stock.opt.enableflags & ~energy

  # Numerics are the only elements that we add, sensors that we leave out; both
  # move name addresses.
  expected = set()
  if settings.unread_sensors:
    assert ours.nsensor < stock.nsensor
    expected |= {'nsensordata', 'nnames', 'nnames_map', 'names', 'names_map'}
    expected |= {'nbuffer', 'signature', 'paths_map'}
    expected |= {x for x in dir(stock) if 'sensor' in x}
  if settings.collide != 'stock':
    expected |= {f'{x}_con{y}' for x in ('geom', 'body') for y in _COLLIDE}
    expected |= {'nbuffer'}
  if settings.max_contact_points is not None:
    expected |= {'nnumeric', 'nnumericdata', 'nnames', 'nnames_map'}
    expected |= {'names', 'names_map', 'nbuffer', 'signature', 'paths_map'}
    expected |= {f'numeric_{x}' for x in ('adr', 'data', 'size')}
  differing = {
    name
    for name in _differing(ours, stock)
    if not name.startswith('name_') and name != 'narena'
    # Bounding volumes follow from what may collide, and MJX has none.
    if 'bvh' not in name or settings.collide == 'stock'
  }
  assert differing <= expected


@pytest.mark.parametrize('domain', _DOMAINS)
def test_sensors_that_no_task_reads_are_left_out(domain):
  """Each that is left changes what some task of the domain returns."""
  tasks = [t for t in envs.ALL_TASKS if t.split('-')[0] == domain]
  rng = np.random.default_rng(0)
  unread = None
  for env in map(checks.load, tasks):
    m = env.mj_model
    params = env.default_params()
    info = {k: jp.asarray(v, jp.float32) for k, v in params.items()}
    data = env.place(Initial(m.qpos0))

    def results(readings, env=env, data=data, info=info):
      data = data.replace(sensordata=readings)
      state = env._fill(base.State(data, None, None, None, info=info))
      return jp.append(state.obs, state.reward)

    one, other = rng.normal(size=(2, 9, m.nsensordata)).astype(np.float32)
    owner = np.repeat(np.arange(m.nsensor), m.sensor_dim)
    changed = np.where(owner == np.arange(m.nsensor)[:, None, None], other, one)
    found = jax.vmap(jax.vmap(results))(jp.asarray([one, *changed]))
    same = np.all(np.asarray(found[1:] == found[0]), axis=(1, 2))
    names = {m.sensor(i).name for i in np.flatnonzero(same)}
    unread = names if unread is None else unread & names
  assert not unread


def test_mjx_still_has_the_parts_we_split():
  """Fails when upstream changes `forward` or `step`, to be read again."""
  forward = inspect.getsource(inspect.unwrap(physics.mjx_forward.forward))
  stages = [
    'd = fwd_position(m, d)',
    'd = sensor.sensor_pos(m, d)',
    'd = fwd_velocity(m, d)',
    'd = sensor.sensor_vel(m, d)',
    'd = fwd_actuation(m, d)',
    'd = fwd_acceleration(m, d)',
    'd = d.replace(qacc=d.qacc_smooth)',
    'd = named_scope(solver.solve)(m, d)',
    'd = sensor.sensor_acc(m, d)',
  ]
  lines = [line.strip() for line in forward.splitlines()]
  assert [line for line in lines if line in stages] == stages
  jax_part = lines[lines.index(stages[0]) :]
  calls = [line for line in jax_part if line.startswith('d = ')]
  assert calls == stages
  for function, expected in (
    (
      physics.mjx_forward.fwd_position,
      [
        'smooth.kinematics',
        'smooth.com_pos',
        'smooth.camlight',
        'smooth.tendon',
        'smooth.crb',
        'smooth.tendon_armature',
        'smooth.factor_m',
        'collision_driver.collision',
        'constraint.make_constraint',
        'smooth.transmission',
      ],
    ),
    (
      physics.mjx_forward.fwd_velocity,
      ['smooth.com_vel', 'passive.passive', 'smooth.rne', 'smooth.tendon_bias'],
    ),
  ):
    source = inspect.getsource(inspect.unwrap(function))
    assert re.findall(r'd = ([a-z_.]+)\(m, d\)', source) == expected
  advance = inspect.signature(physics.mjx_forward._advance).parameters
  assert list(advance) == ['m', 'd', 'act_dot', 'qacc', 'qvel']
  step = inspect.getsource(inspect.unwrap(physics.mjx_forward.step))
  assert 'd = euler(m, d)' in step
  assert 'd = rungekutta4(m, d)' in step
