"""Costs of constraint rows, against C's."""

import types

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco.mjx._src.types import ConeType, DisableBit

from mjx_crossq.envs.mjx import row_costs

_BODY = """
<body pos="{x} 0 .04">
  <freejoint/>
  <geom type="sphere" size=".05" condim="{condim}"/>
</body>
"""
_MODEL = """
<mujoco>
  <option cone="{cone}" impratio="2"/>
  <worldbody>
    <geom type="plane" size="5 5 1" condim="1"/>
    {bodies}
    <body pos="0 3 1">
      <joint name="a" type="hinge" frictionloss=".1" limited="true"
        range="-1 1" ref="-2"/>
      <geom type="sphere" size=".05"/>
    </body>
    <body pos="0 4 1">
      <joint name="b" type="hinge"/>
      <geom type="sphere" size=".05"/>
    </body>
  </worldbody>
  <equality><joint joint1="a" joint2="b"/></equality>
</mujoco>
"""


def _problem(cone, condims):
  """A C model with a contact of each kind, and ours of the same rows."""
  bodies = [_BODY.format(x=x, condim=dim) for x, dim in enumerate(condims)]
  text = _MODEL.format(cone=cone, bodies=''.join(bodies))
  model = mujoco.MjModel.from_xml_string(text)
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  contact = data.contact
  assert contact.dim.tolist() == list(condims)
  impl = types.SimpleNamespace(
    ne=data.ne,
    nf=data.nf,
    efc_D=jp.asarray(data.efc_D),
    efc_frictionloss=jp.asarray(data.efc_frictionloss),
    contact=types.SimpleNamespace(
      dim=contact.dim,
      efc_address=contact.efc_address,
      friction=jp.asarray(contact.friction),
    ),
  )
  option = types.SimpleNamespace(
    cone=ConeType(model.opt.cone),
    impratio=model.opt.impratio,
    disableflags=DisableBit(0),
  )
  ours = row_costs.of(
    types.SimpleNamespace(opt=option), types.SimpleNamespace(_impl=impl)
  )
  return model, data, ours


@pytest.mark.parametrize(
  'cone, condims',
  (('elliptic', (1, 3, 3, 4, 6)), ('pyramidal', (1, 3))),
)
def test_forces_and_second_derivatives_are_those_of_c(cone, condims):
  with jax.enable_x64(True):
    model, data, ours = _problem(cone, condims)
    assert data.ne and data.nf and data.nl
    rng = np.random.RandomState(0)
    jacobian = rng.normal(size=(data.nefc, 5))
    force, hessian = jax.jit(ours.force), jax.jit(ours.hessian)
    derivative = jax.jit(jax.jacfwd(ours.force))
    zones = set()
    for _ in range(200):
      residual = rng.normal(size=data.nefc) * 10.0 ** rng.uniform(-2, 3)
      cost = np.zeros(1)
      mujoco.mj_constraintUpdate(model, data, residual, cost, 0)
      zones |= set(data.efc_state.tolist())
      np.testing.assert_allclose(
        force(residual), data.efc_force, rtol=1e-9, atol=1e-12
      )
      expected = -jacobian.T @ derivative(residual) @ jacobian
      scale = np.abs(expected).max()
      np.testing.assert_allclose(
        hessian(residual, jacobian), expected, atol=1e-9 * scale
      )
    state = mujoco.mjtConstraintState
    seen = {state.mjCNSTRSTATE_SATISFIED, state.mjCNSTRSTATE_QUADRATIC}
    seen |= {state.mjCNSTRSTATE_LINEARNEG, state.mjCNSTRSTATE_LINEARPOS}
    seen |= {state.mjCNSTRSTATE_CONE} if cone == 'elliptic' else set()
    assert zones == {int(x) for x in seen}


def test_a_contact_that_does_not_exist_has_no_force():
  """Slots without a contact have rows of zeros and whatever friction."""
  with jax.enable_x64(True):
    _, data, ours = _problem('elliptic', (1, 3))
    zeros = np.zeros(data.nefc)
    assert not np.any(ours.force(zeros))
    assert np.all(np.isfinite(ours.hessian(zeros, np.eye(data.nefc))))
