"""Kinematics, dynamics and constraint rows, stage by stage, against C."""

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from mjx_crossq.envs.mjx import (
  corrections,
  dynamics,
  kinematics,
  rows,
  topology,
)

# All kinds of joints, several on a body, off its origin; branches; a body that
# is moved from outside.
_XML = """
<mujoco>
  <option gravity="1 2 -9" jacobian="dense">
    <flag contact="disable"/>
  </option>
  <default><geom size=".1"/></default>
  <worldbody>
    <body pos="0 0 1" quat="1 .2 .3 .1">
      <freejoint/>
      <geom size=".1 .2 .3" type="box" pos=".1 0 .2" quat="1 1 0 .3"/>
      <body pos=".1 .2 .3" quat="1 .5 0 0">
        <joint axis="1 1 0" pos=".1 .2 0" range="-20 20" limited="true"/>
        <joint type="slide" axis="0 1 1"/>
        <joint name="third" axis="1 0 1" pos="0 0 .3"/>
        <geom/>
        <body pos="0 .1 .3">
          <joint type="ball" pos="0 .1 .1"/>
          <geom type="capsule" size=".1 .2" quat="1 2 3 4"/>
          <site pos=".1 .1 .1" quat="1 0 1 0"/>
          <body pos=".2 0 0" quat="1 .1 .2 .3">
            <geom/>
            <body pos=".2 0 0">
              <joint axis="0 1 0"/>
              <joint type="slide" axis="1 0 .2"/>
              <geom/>
            </body>
          </body>
        </body>
      </body>
      <body pos="-.1 0 0"><joint axis="0 0 1"/><geom/></body>
    </body>
    <body mocap="true" pos="1 1 1"><geom/><site name="end"/></body>
    <body pos="2 0 0">
      <joint name="slide" type="slide" range="-.1 .1" limited="true"/>
      <joint name="hinge" axis="0 1 0" pos="0 0 .1" ref=".3"/>
      <geom pos=".1 .1 0"/>
    </body>
  </worldbody>
  <tendon>
    <fixed name="pair">
      <joint joint="slide" coef="2"/><joint joint="hinge" coef="-1"/>
    </fixed>
  </tendon>
  <actuator>
    <motor joint="third" gear="3"/><motor tendon="pair" gear="2"/>
  </actuator>
  <sensor><subtreelinvel body="world"/></sensor>
</mujoco>
"""
_POSITION = (
  'xpos',
  'xquat',
  'xmat',
  'xipos',
  'ximat',
  'xanchor',
  'xaxis',
  'geom_xpos',
  'geom_xmat',
  'site_xpos',
  'site_xmat',
  'subtree_com',
  'cdof',
  'actuator_length',
)
_VELOCITY = ('cvel', 'cdof_dot', 'qfrc_bias')


@pytest.fixture(
  scope='module', params=(topology.by_product, topology.by_choice)
)
def states(request):
  """A model, states of it in C, and what our stages make of them.

  Once as on CPUs and once as on accelerators.
  """
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(topology, 'total', request.param)
    return _states()


def _states():
  corrections.install()
  model = mujoco.MjModel.from_xml_string(_XML)
  ours = mjx.put_model(model, impl='jax')
  empty = mjx.make_data(model, impl='jax')

  @jax.jit
  def stages(qpos, qvel, mocap_pos, mocap_quat, applied):
    data = empty.replace(
      qpos=qpos,
      qvel=qvel,
      mocap_pos=mocap_pos,
      mocap_quat=mocap_quat,
      xfrc_applied=applied,
    )
    data = kinematics.kinematics(ours, data)
    data = dynamics.com_pos(ours, data)
    data = mjx._src.smooth.tendon(ours, data)
    data = dynamics.crb(ours, data)
    data = rows.make_constraint(ours, data)
    data = dynamics.transmission(ours, data)
    data = dynamics.com_vel(ours, data)
    data = dynamics.rne(ours, data)
    data = dynamics.subtree_vel(ours, data)
    jacobians = jax.vmap(
      lambda body: dynamics.jac(ours, data, jp.array([0.1, 0.2, 0.3]), body)
    )(jp.arange(model.nbody))
    return data, dynamics.xfrc_accumulate(ours, data), jacobians

  rng = np.random.RandomState(0)
  result = []
  with jax.default_matmul_precision('highest'):
    for _ in range(10):
      data = mujoco.MjData(model)
      data.qpos[:] = rng.normal(size=model.nq)
      mujoco.mj_normalizeQuat(model, data.qpos)
      data.qvel[:] = rng.normal(size=model.nv)
      data.xfrc_applied[:] = rng.normal(size=(model.nbody, 6))
      data.mocap_pos[:], data.mocap_quat[:] = (
        rng.normal(size=(1, 3)),
        (rng.normal(size=(1, 4))),
      )
      mujoco.mj_forward(model, data)
      mujoco.mj_subtreeVel(model, data)
      given = (
        data.qpos,
        data.qvel,
        data.mocap_pos,
        data.mocap_quat,
        data.xfrc_applied,
      )
      result.append((data, *stages(*map(jp.float32, given))))
  return model, result


def _equal(ours, stock):
  stock = np.asarray(stock)
  scale = max(1, np.abs(stock).max())
  np.testing.assert_allclose(
    np.ravel(ours), stock.ravel(), rtol=0, atol=3e-6 * scale
  )


@pytest.mark.parametrize('name', (*_POSITION, *_VELOCITY))
def test_fields_equal_c(states, name):
  for stock, ours, _, _ in states[1]:
    _equal(getattr(ours, name), getattr(stock, name))


def test_inertia_equals_c(states):
  model, results = states
  for stock, ours, _, _ in results:
    expected = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, stock, expected)
    _equal(ours._impl.M, expected)
    # The world's own inertia moves nothing, and is not C's.
    _equal(ours._impl.cinert[1:], stock.cinert[1:])


def test_forces_on_bodies_equal_c(states):
  model, results = states
  for stock, _, forces, (linear, angular) in results:
    expected = np.zeros(model.nv)
    for body in range(1, model.nbody):
      push, turn = stock.xfrc_applied[body, :3], stock.xfrc_applied[body, 3:]
      mujoco.mj_applyFT(
        model, stock, push, turn, stock.xipos[body], body, expected
      )
      jacobians = np.zeros((2, 3, model.nv))
      point = np.array([0.1, 0.2, 0.3])
      mujoco.mj_jac(model, stock, *jacobians, point, body)
      _equal(linear[body], jacobians[0].T)
      _equal(angular[body], jacobians[1].T)
    _equal(forces, expected)


def test_actuators_and_subtrees_equal_c(states):
  model, results = states
  for stock, ours, _, _ in results:
    moment = np.zeros((model.nu, model.nv))
    mujoco.mju_sparse2dense(
      moment,
      stock.actuator_moment,
      stock.moment_rownnz,
      stock.moment_rowadr,
      stock.moment_colind,
    )
    _equal(ours._impl.actuator_moment, moment)
    _equal(ours._impl.subtree_linvel[1:], stock.subtree_linvel[1:])


def test_limits_equal_c(states):
  model, results = states
  seen = 0
  for stock, ours, _, _ in results:
    active = np.flatnonzero(np.abs(ours._impl.efc_J).sum(axis=1))
    assert len(active) == stock.nefc
    seen += stock.nefc
    jacobian = stock.efc_J.reshape(stock.nefc, model.nv)
    _equal(ours._impl.efc_J[active], jacobian)
    _equal(ours._impl.efc_aref[active], stock.efc_aref)
    np.testing.assert_allclose(ours._impl.efc_D[active], stock.efc_D, rtol=1e-4)
  assert seen > 5


def test_tables_of_a_tree():
  model = mujoco.MjModel.from_xml_string(_XML)
  tables = topology.of(model)
  assert tables.depth == 5
  assert tables.subtree[1, 1:7].all()
  assert not tables.subtree[1, 7:].any()
  assert tables.moves[0].sum() == 0
  assert (tables.steady == (np.arange(model.nv) < 3)).all()
