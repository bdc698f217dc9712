"""The model's edits, MJX's private parts, and the order of a stock step."""

import inspect

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

import envs
from envs import physics

from . import measured

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
  env = measured.env(_task(domain))
  ours = env.mj_model
  stock = env.stock_env(0).physics.model.ptr
  settings = physics.SETTINGS.get(domain, physics.Settings())

  expected = {'tolerance'}
  if stock.opt.enableflags & mujoco.mjtEnableBit.mjENBL_ENERGY:
    expected |= {'enableflags'}
  if settings.iterations is not None:
    expected |= {'iterations', 'ls_iterations'}
  if not settings.warmstart:
    expected |= {'disableflags'}
  assert _differing(ours.opt, stock.opt) == expected
  flags = ours.opt.enableflags
  assert flags == stock.opt.enableflags & ~mujoco.mjtEnableBit.mjENBL_ENERGY

  # A numeric is the only element that we add; it moves name addresses.
  expected = set()
  if settings.max_contact_points is not None:
    expected = {'nnumeric', 'nnumericdata', 'nnames', 'nnames_map'}
    expected |= {'names', 'names_map', 'nbuffer', 'signature', 'paths_map'}
    expected |= {f'numeric_{x}' for x in ('adr', 'data', 'size')}
  differing = {
    name
    for name in _differing(ours, stock)
    if not name.startswith('name_') and name != 'narena'
  }
  assert differing <= expected


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
  advance = inspect.signature(physics.mjx_forward._advance).parameters
  assert list(advance) == ['m', 'd', 'act_dot', 'qacc', 'qvel']
  step = inspect.getsource(inspect.unwrap(physics.mjx_forward.step))
  assert 'd = euler(m, d)' in step
  assert 'd = rungekutta4(m, d)' in step


@pytest.mark.xdist_group('cartpole')
def test_runge_kutta_equals_mjx():
  env = measured.env('cartpole-swingup')
  data = env.state_from(
    jp.array([0.3, 2.0]), jp.array([1.0, -3.0])
  ).pipeline_state
  ctrl = jp.array([0.7])
  ours = physics.step(env.model, data, ctrl, 1)
  theirs = jax.jit(mjx.step)(env.model, data.replace(ctrl=ctrl))
  for name in ('qpos', 'qvel', 'time', 'qacc_warmstart'):
    np.testing.assert_allclose(
      getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-6
    )


@pytest.mark.xdist_group('hopper')
def test_step_mixes_new_positions_with_the_last_solve():
  """After a step, touch is what the forces were; positions are new."""
  env = measured.env('hopper-stand')
  stock = env.stock_env(0).physics
  touching = measured.records('hopper-stand')
  # A state in which the touch sensors report and change.
  row = int(np.argmax(touching.obs[:, -1]))
  with stock.reset_context():
    stock.data.qpos[:] = touching.qpos[row]
    stock.data.qvel[:] = touching.qvel[row]
  state = measured.states('hopper-stand')
  state = jax.tree.map(lambda x: jp.asarray(x[row : row + 1]), state)
  action = jp.ones((1, env.action_size))
  after = jax.vmap(env.step)(state, action).pipeline_state
  stock.set_control(np.ones(env.action_size))
  stock.step(env.substeps)
  sensors = stock.data.sensordata
  np.testing.assert_allclose(after.sensordata[0], sensors, rtol=2e-3, atol=2e-3)
  np.testing.assert_allclose(after.xpos[0], stock.data.xpos, atol=1e-4)
  stock.forward()  # What a plain MJX step would show instead.
  assert np.abs(sensors - stock.data.sensordata).max() > 0.1
