"""The noslip pass against C MuJoCo's, row by row, in float64."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

_CODE = """
import importlib, json, sys
import jax, jax.numpy as jp, mujoco, numpy as np
from mjx_crossq.envs.mjx import corrections, noslip
from mujoco import mjx
from mujoco.mjx._src import forward, solver

def dense(model, data):
  rows = np.zeros((data.nefc, model.nv))
  for i in range(data.nefc):
    unit = np.zeros(data.nefc)
    unit[i] = 1
    mujoco.mj_mulJacTVec(model, data, rows[i], unit)
  return rows

def c_forward(model, data, iterations):
  model.opt.noslip_iterations = iterations
  mujoco.mj_forward(model, data)
  return data.efc_force.copy(), data.qacc.copy()

def first_rows(data):
  result = []
  for contact in data.contact:
    result += [contact.efc_address + 2 * k for k in range(contact.dim - 1)]
  return np.array(result, int)
"""

_ROWS = """
from dm_control import suite
env = suite.load('dog', 'run', task_kwargs={'random': 0})
env.reset()
physics, rng = env.physics, np.random.RandomState(0)
model, data = physics.model.ptr, mujoco.MjData(physics.model.ptr)
scale = 1 / (model.stat.meaninertia * model.nv)
settings = noslip.Settings(4, model.opt.noslip_tolerance, scale, 64)
sweeps = [
  jax.jit(lambda p, a, r, n=n: noslip.sweeps(p, a, r, settings, n))
  for n in (1, noslip.BLOCK)
]
worst, moved, pairs = 0., 0., 0
for step in range(400):
  if step % 20 == 0:
    action = rng.uniform(-1, 1, env.action_spec().shape)
  env.step(action)
  if step % 10 != 5:
    continue
  for name in ('qpos', 'qvel', 'act', 'ctrl', 'qacc_warmstart'):
    getattr(data, name)[:] = getattr(physics.data, name)
  before, qacc = c_forward(model, data, 0)
  first = first_rows(data)
  after, expected = c_forward(model, data, 4)
  model.opt.noslip_iterations = 4
  J = dense(model, data)
  response = np.zeros_like(J)
  mujoco.mj_solveM(model, data, response, J)
  # Rows of zeros change nothing.
  rows = np.full((64, 2), len(J))
  rows[: len(first)] = first[:, None] + np.arange(2)
  pad = lambda x: np.concatenate([x, np.zeros_like(x[:1])])
  part = [pad(x)[rows] for x in (J, response, data.efc_aref, before)]
  regularised = (before**2 * data.efc_R).sum() / 2
  for sweep in sweeps:
    force, ours = sweep(noslip.Pairs(*map(jp.asarray, part)), qacc, regularised)
    new = pad(before)
    new[rows] = force
    for x, y in ((new[:-1], after), (ours, expected)):
      worst = max(worst, np.abs(x - y).max() / np.abs(y).max(initial=1))
  moved = max(moved, np.abs(before - after).max(initial=0))
  pairs += len(first)
result = {'worst': float(worst), 'moved': float(moved), 'pairs': pairs}
print(json.dumps(result))
"""

_DATA = """
XML = '''
<mujoco>
  <option noslip_iterations="4" noslip_tolerance="1e-6" tolerance="1e-12"
          iterations="100" ls_iterations="100" ls_tolerance="1e-6"/>
  <custom><numeric name="max_contact_points" data="8"/></custom>
  <worldbody>
    <geom type="plane" size="2 2 1" condim="3"/>
    <body pos="0 0 .09"><freejoint/>
      <geom type="capsule" size=".1 .2" euler="0 90 0" condim="3"/>
      <body pos=".3 0 .1"><joint axis="0 1 0"/>
        <geom type="capsule" size=".05 .1" condim="6" priority="1"/></body>
      <body pos="-.3 0 .1"><joint axis="0 1 0"/>
        <geom size=".06" pos="0 0 -.15" condim="4" priority="1"/></body>
    </body>
    <body pos="0 .15 .09"><freejoint/><geom size=".1" condim="4"/></body>
    <body pos=".05 .1 .25"><freejoint/><geom size=".1" condim="6"/></body>
    <body pos="1 1 .055"><freejoint/>
      <geom type="box" size=".1 .2 .06" condim="4"/></body>
  </worldbody>
</mujoco>'''
corrections.install()  # MJX's own lacks contacts of a tilted box.
spec = mujoco.MjSpec.from_string(XML)
noslip.keep(spec)
model = spec.compile()
data = mujoco.MjData(model)
mjx_model = mjx.put_model(model, impl='jax')
empty = mjx.make_data(model, impl='jax')
settings = noslip.Settings.of(mjx_model, 40)
assert (settings.iterations, settings.tolerance) == (4, 1e-6)

@jax.jit
def ours(qpos, qvel):
  data = empty.replace(qpos=qpos, qvel=qvel)
  data = forward.fwd_position(mjx_model, data)
  data = forward.fwd_velocity(mjx_model, data)
  data = forward.fwd_actuation(mjx_model, data)
  data = forward.fwd_acceleration(mjx_model, data)
  data = solver.solve(mjx_model, data)
  after = noslip.noslip(mjx_model, data, settings)
  return data.qacc, after.qacc, after.qfrc_constraint, after._impl.efc_force

rng = np.random.RandomState(0)
solved, worst, moved, touching = 0., 0., 0., 0
for _ in range(30):
  mujoco.mj_resetData(model, data)
  data.qpos[:] += rng.uniform(-.02, .02, model.nq)
  mujoco.mj_normalizeQuat(model, data.qpos)
  data.qvel[:] = rng.normal(size=model.nv)
  qpos, qvel = data.qpos.copy(), data.qvel.copy()
  _, qacc = c_forward(model, data, 0)
  _, expected = c_forward(model, data, 4)
  touching += data.ncon
  before, after, force, efc = ours(qpos, qvel)
  size = np.abs(expected).max()
  solved = max(solved, np.abs(before - qacc).max() / size)
  worst = max(worst, np.abs(after - expected).max() / size)
  error = np.abs(force - data.qfrc_constraint).max()
  worst = max(worst, error / np.abs(force).max())
  moved = max(moved, np.abs(qacc - expected).max() / size)
print(json.dumps({'solved': float(solved), 'worst': float(worst),
                  'moved': float(moved), 'touching': int(touching)}))
"""


def _run(code):
  result = subprocess.run(
    [sys.executable, '-c', _CODE + code],
    env=os.environ | {'JAX_ENABLE_X64': '1'},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_rows_of_dog_equal_c():
  """From C's own rows and forces without the pass to those with it."""
  result = _run(_ROWS)
  assert result['pairs'] > 100
  assert result['moved'] > 1  # Newton.
  assert result['worst'] < 1e-9


@pytest.mark.slow
def test_data_equal_c():
  """After MJX's own solver, contacts of dimensions 3, 4 and 6 in C's order.

  MJX has them by depth, since not all candidates have a slot.
  """
  result = _run(_DATA)
  assert result['touching'] > 60
  assert result['moved'] > 1e-3
  assert result['solved'] < 1e-7
  assert result['worst'] < 1e-6


def test_a_pair_is_at_its_minimum():
  from mjx_crossq.envs.mjx import noslip

  rng = np.random.RandomState(0)
  for _ in range(50):
    root = rng.normal(size=(2, 3))
    inertia, residual = root @ root.T, rng.normal(size=2)
    force = rng.uniform(0, 2, 2)
    new, change = noslip._pair(inertia, [*residual], [*force])
    new = np.asarray(new)
    assert new.min() >= 0
    np.testing.assert_allclose(new.sum(), force.sum(), rtol=1e-5)

    def cost(x, inertia=inertia, residual=residual, force=force):
      delta = x - force
      return delta @ inertia @ delta / 2 + delta @ residual

    middle = force.sum() / 2
    others = [
      cost(np.array([middle + y, middle - y]))
      for y in np.linspace(-middle, middle, 201)
    ]
    np.testing.assert_allclose(change, cost(new), atol=1e-5)
    assert cost(new) <= min(others) + 1e-5


def test_the_first_sweep_is_not_the_last_for_its_regularisation():
  """As in C, its cost counts as the first sweep's improvement."""
  import jax.numpy as jp

  from mjx_crossq.envs.mjx import noslip

  rng = np.random.RandomState(0)
  jacobian = jp.asarray(rng.normal(size=(3, 2, 6)))
  force = jp.asarray(rng.uniform(1, 2, size=(3, 2)))
  pairs = noslip.Pairs(jacobian, jacobian, jp.zeros((3, 2)), force)
  qacc = jp.asarray(rng.normal(size=6))

  def forces(iterations, regularised):
    # More than any sweep improves.
    settings = noslip.Settings(iterations, 1e6, 1.0, 3)
    return np.asarray(noslip.sweeps(pairs, qacc, regularised, settings)[0])

  one, two = forces(1, 0.0), forces(2, 2e6)
  assert np.abs(one - two).max() > 1e-3
  np.testing.assert_allclose(forces(4, 0.0), one, rtol=1e-6)
  np.testing.assert_allclose(forces(4, 2e6), two, rtol=1e-6)


@pytest.mark.parametrize(
  'cone, joint', [('elliptic', ''), ('pyramidal', 'frictionloss="1"')]
)
def test_models_that_it_is_not_for_are_refused(cone, joint):
  import mujoco

  from mjx_crossq.envs.mjx import noslip

  spec = mujoco.MjSpec.from_string(
    f"""<mujoco><option noslip_iterations="4" cone="{cone}"/><worldbody>
    <body><joint {joint}/><geom size="1"/></body></worldbody></mujoco>"""
  )
  with pytest.raises(NotImplementedError, match='noslip'):
    noslip.keep(spec)


def test_order_is_that_of_c_whatever_the_slots():
  """Dog's contacts that rub, shuffled among slots of their dimension."""
  import types

  import jax
  import mujoco
  from dm_control import suite

  from mjx_crossq.envs.mjx import noslip

  env = suite.load('dog', 'run', task_kwargs={'random': 0})
  env.reset()
  model, data = env.physics.model.ptr, env.physics.data.ptr
  rng = np.random.RandomState(0)
  dim = np.repeat([3, 6], [48, 32])
  rows = 2 * (dim - 1)
  address = np.cumsum(rows) - rows

  @jax.jit
  def order(**arrays):
    poses = {k: arrays.pop(k) for k in ('geom_xpos', 'geom_xmat')}
    contact = types.SimpleNamespace(
      dim=dim, efc_address=address, includemargin=0.0, **arrays
    )
    impl = types.SimpleNamespace(contact=contact)
    ours = types.SimpleNamespace(_impl=impl, **poses)
    return noslip._order(model, ours, noslip.Settings(4, 0.0, 1.0, 256))

  several = 0
  for _ in range(60):
    action = rng.uniform(-1, 1, env.action_spec().shape)
    for _ in range(3):
      env.step(action)
    mujoco.mj_forward(model, data)
    geom, pos = np.ones((80, 2), int), np.zeros((80, 3))
    dist = np.ones(80)
    free = {d: list(rng.permutation(np.flatnonzero(dim == d))) for d in (3, 6)}
    expected, pairs = [], []
    for contact in data.contact:
      if contact.dim > 1:
        slot = free[contact.dim].pop()
        geom[slot], pos[slot] = contact.geom, contact.pos
        dist[slot] = contact.dist
        expected += [address[slot] + 2 * k for k in range(contact.dim - 1)]
        pairs.append(tuple(contact.geom))
    several += len(pairs) - len(set(pairs))
    found = order(
      geom=geom,
      pos=pos,
      dist=dist,
      geom_xpos=data.geom_xpos.copy(),
      geom_xmat=data.geom_xmat.reshape(-1, 3, 3).copy(),
    )
    np.testing.assert_array_equal(found[: len(expected)], expected)
  assert several >= 5
