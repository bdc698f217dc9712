"""Contacts of capsules against C: by our driver, and by MJX's as corrected."""

import mujoco
import numpy as np
import pytest
from mujoco.mjx._src import collision_driver

from mjx_crossq.envs.mjx import collision, contacts, corrections

from . import checks

_XML = """
<mujoco>
  <worldbody>
    {first}
    <body>
      <freejoint/>
      <geom type="capsule" size=".05 .1"/>
    </body>
  </worldbody>
</mujoco>
"""
_FIRST = {
  'plane': '<geom type="plane" size="1 1 1" euler="10 20 30"/>',
  'sphere': '<body><freejoint/><geom size=".06"/></body>',
  'capsule': ('<body><freejoint/><geom type="capsule" size=".04 .02"/></body>'),
}


def _poses(model, count):
  """Random poses near the origin, many of them in touch; some upright."""
  rng = np.random.RandomState(0)
  qpos = rng.normal(size=(count, model.nq))
  for start in range(0, model.nq, 7):
    qpos[:, start : start + 3] *= 0.06
    qpos[: count // 4, start + 4 : start + 7] *= 0.05
    quat = qpos[:, start + 3 : start + 7]
    quat /= np.linalg.norm(quat, axis=1, keepdims=True)
  return qpos


@pytest.mark.parametrize(
  'driver', (contacts.collision, collision_driver.collision)
)
@pytest.mark.parametrize('first', _FIRST)
def test_contacts_equal_c(first, driver):
  model = mujoco.MjModel.from_xml_string(_XML.format(first=_FIRST[first]))
  data = mujoco.MjData(model)
  qpos = _poses(model, 400)

  ours = checks.contacts(model, qpos, driver)
  touching = 0
  for i in range(len(qpos)):
    data.qpos[:] = qpos[i]
    mujoco.mj_forward(model, data)
    active = np.flatnonzero(ours.dist[i] < 0)
    expected = list(data.contact)
    if np.abs(ours.dist[i]).min() < 1e-6:
      continue  # Too near for float32 to call.
    assert len(active) == len(expected)
    for j, contact in zip(active, expected, strict=True):
      touching += 1
      np.testing.assert_allclose(ours.dist[i, j], contact.dist, atol=2e-6)
      np.testing.assert_allclose(ours.pos[i, j], contact.pos, atol=2e-5)
      frame = contact.frame.reshape(3, 3)
      np.testing.assert_allclose(ours.frame[i, j], frame, atol=2e-3)
  assert touching > 100


def test_corrections_are_in_the_table():
  corrections.install()
  for types, collider in collision.COLLIDERS.items():
    assert collision_driver._COLLISION_FUNC[types] is collider
