"""What MJX gets wrong and we correct: fails when MJX does it right.

Each test runs MJX as it is, without our corrections, where it was wrong.
"""

import importlib.util
import inspect
from pathlib import Path

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import collision_driver, ray, smooth
from mujoco.mjx._src.types import GeomType

from mjx_crossq.envs.mjx import (
  colliders,
  collision,
  contacts,
  corrections,
  elimination,
  newton,
  noslip,
)
from tests.envs import checks

_GEOMS = {
  'plane': 'type="plane" size="9 9 .1"',
  'sphere': 'size=".06"',
  'capsule': 'type="capsule" size=".04 .02"',
  'ellipsoid': 'type="ellipsoid" size=".03 .06 .1"',
  'cylinder': 'type="cylinder" size=".1 .05"',
  'box': 'type="box" size=".05 .07 .09"',
}


def repaired(what, drop):
  return f'MJX {mujoco.__version__} now does this itself ({what}): drop {drop}'


def _model(first, second, xml='<freejoint/>'):
  free = '' if first == 'plane' else xml
  return mujoco.MjModel.from_xml_string(f"""
    <mujoco>
      <option><flag nativeccd="enable"/></option>
      <worldbody>
        <body>{free}<geom {_GEOMS[first]}/></body>
        <body>{xml}<geom {_GEOMS[second]}/></body>
      </worldbody>
    </mujoco>""")


def _poses(model, count, spread=0.06):
  rng = np.random.RandomState(0)
  qpos = rng.normal(size=(count, model.nq))
  for start in range(0, model.nq, 7):
    qpos[:, start : start + 3] *= spread
    quat = qpos[:, start + 3 : start + 7]
    quat /= np.linalg.norm(quat, axis=1, keepdims=True)
  return qpos


def _in_c(model, qpos):
  """C's contacts of each pose: distances, positions and frames."""
  data, found = mujoco.MjData(model), []
  for row in qpos:
    data.qpos[:] = row
    mujoco.mj_forward(model, data)
    found.append([(x.dist, x.pos.copy(), x.frame.copy()) for x in data.contact])
  return found


@pytest.fixture
def unpatched(monkeypatch):
  """MJX's contacts, by its own table of colliders."""
  corrections.install()  # `checks.contacts` would install them here
  table = dict(corrections.UPSTREAM)
  monkeypatch.setattr(collision_driver, '_COLLISION_FUNC', table)
  return lambda model, qpos: checks.contacts(
    model, qpos, collision_driver.collision
  )


def test_originals_are_not_ours():
  for types, ours in (collision.COLLIDERS | colliders.COLLIDERS).items():
    assert corrections.UPSTREAM.get(types) is not ours


def test_nothing_is_corrected_twice():
  """Our colliders call none of those that they replace."""
  ours = collision.COLLIDERS | colliders.COLLIDERS
  replaced = [
    corrections.UPSTREAM[x] for x in ours if x in corrections.UPSTREAM
  ]
  replaced += [inspect.unwrap(x) for x in replaced]
  for module in (
    *(collision, contacts, colliders),
    *(colliders.smooth, colliders.box_box),
    *(colliders.capsule_box, colliders.plane_box, colliders.cylinder),
    *(colliders.hfield, colliders.hfield.prism, colliders.hfield.prism_geoms),
  ):
    for name, value in vars(module).items():
      assert not any(value is x for x in replaced), f'{module}: {name}'


def test_plane_capsule(unpatched):
  """mujoco issue 2774: friction directions of a nearly upright capsule."""
  model = _model('plane', 'capsule')
  qpos = _poses(model, 1)
  qpos[0] = [0, 0, 0.05, *_quat([0.1, 0.05, 0.7])]
  (expected,) = _in_c(model, qpos)
  frame = np.asarray(unpatched(model, qpos).frame[0, 0]).ravel()
  assert np.abs(frame - expected[0][2]).max() > 0.1, repaired(
    'friction directions of capsules on planes, issue 2774',
    'plane_capsule in envs/mjx/collision.py, and see envs/warp/worlds.py',
  )


def _quat(euler):
  quat = np.zeros(4)
  mujoco.mju_euler2Quat(quat, np.array(euler), 'XYZ')
  return quat


@pytest.mark.parametrize('first', ('sphere', 'capsule'))
def test_segments(unpatched, first):
  """The nearest points of short segments are off by 1e-6 / length^2."""
  model = _model(first, 'capsule')
  qpos = _poses(model, 200, 0.03)
  ours, errors = unpatched(model, qpos), []
  for index, expected in enumerate(_in_c(model, qpos)):
    if len(expected) == 1:
      apart = np.asarray(ours.pos[index, 0]) - expected[0][1]
      errors.append(np.abs(apart).max())
  assert len(errors) > 50
  assert np.quantile(errors, 0.9) > 2e-6, repaired(
    'nearest points of segments without 1e-6 in the denominators',
    f'{first}_capsule in envs/mjx/collision.py',
  )


@pytest.mark.parametrize(
  ('first', 'second'),
  [
    ('sphere', 'ellipsoid'),
    ('capsule', 'ellipsoid'),
    ('ellipsoid', 'ellipsoid'),
    ('capsule', 'cylinder'),
    ('ellipsoid', 'cylinder'),
  ],
)
def test_signed_distance_fields(unpatched, first, second):
  """Depths are off by millimetres: a descent that has not converged."""
  model = _model(first, second)
  qpos = _poses(model, 200, 0.05)
  depth = np.asarray(unpatched(model, qpos).dist).min(axis=1)
  expected = np.array(
    [min((c[0] for c in x), default=1) for x in _in_c(model, qpos)]
  )
  both = (depth < 0) & (expected < 0)
  assert both.sum() > 50
  assert np.median(np.abs(depth - expected)[both]) > 1e-3, repaired(
    f'contacts of a {first} and a {second}',
    f'the collider ({first}, {second}) in envs/mjx/colliders',
  )


@pytest.mark.parametrize(
  ('types', 'ours'),
  [
    ((GeomType.ELLIPSOID, GeomType.BOX), 'it in envs/mjx/colliders'),
    (
      (GeomType.CYLINDER, GeomType.BOX),
      'cylinder_box in envs/mjx/colliders/cylinder.py',
    ),
    (
      (GeomType.HFIELD, GeomType.ELLIPSOID),
      'Ellipsoid in envs/mjx/colliders/prism_geoms.py',
    ),
    (
      (GeomType.HFIELD, GeomType.CYLINDER),
      'Cylinder in envs/mjx/colliders/prism_geoms.py',
    ),
  ],
)
def test_missing_colliders(types, ours):
  names = ' and '.join(x.name.lower() for x in types)
  assert types not in corrections.UPSTREAM, repaired(f'{names} collide', ours)


@pytest.mark.parametrize('kind', [GeomType.SPHERE, GeomType.CAPSULE])
def test_contacts_with_height_fields(kind):
  """On a corner of the grid, C has one with each of six prisms."""
  most = corrections.UPSTREAM[GeomType.HFIELD, kind].ncon
  assert most < 6, repaired(
    'more contacts with height fields', 'envs/mjx/colliders/hfield.py'
  )


def test_rays_to_height_fields():
  assert GeomType.HFIELD not in ray._RAY_FUNC, repaired(
    'rays to height fields', 'envs/mjx/rays.py'
  )


def test_capsule_box(unpatched):
  model = _model('capsule', 'box')
  qpos = _poses(model, 300)
  dist, wrong = np.asarray(unpatched(model, qpos).dist), 0
  for row, expected in zip(dist, _in_c(model, qpos), strict=True):
    depths = sorted(x[0] for x in expected)
    found = sorted(row[row < 0])
    wrong += (
      len(depths) != len(found)
      or np.abs(np.subtract(depths, found)).max(initial=0) > 1e-4
    )
  assert wrong > 30, repaired('capsules on boxes', 'colliders/capsule_box.py')


def test_box_box(unpatched):
  """Two boxes on each other, turned by 45 degrees: an octagon of contacts."""
  model = _model('box', 'box')
  qpos = np.array(
    [[0, 0, 0, 1, 0, 0, 0, 0, 0, 0.179, *_quat([0, 0, np.pi / 4])]]
  )
  (expected,) = _in_c(model, qpos)
  assert len(expected) > 4
  found = np.sum(np.asarray(unpatched(model, qpos).dist) < 0)
  assert found < len(expected), repaired(
    'eight contacts of boxes', 'envs/mjx/colliders/box_box.py'
  )


def test_plane_box(unpatched):
  """A tilted box, all of whose lower corners are in the plane."""
  model = _model('plane', 'box')
  qpos = np.array([[0, 0, 0.07, *_quat([0.1, 0.05, 0])]])
  (expected,) = _in_c(model, qpos)
  assert len(expected) == 4
  found = np.sum(np.asarray(unpatched(model, qpos).dist) < 0)
  assert found < 4, repaired(
    'corners of boxes in planes', 'envs/mjx/colliders/plane_box.py'
  )


@pytest.mark.slow
def test_line_search():
  """MJX's solver in float32 leaves more of the cost's gradient than ours."""
  env, records = checks.load('cheetah-run'), checks.records('cheetah-run')
  states = jax.vmap(env.state_from)(records.qpos, records.qvel)

  def left(solve):
    def gradient(state):
      data = state.pipeline_state
      smooth = elimination.solve_vector(data._impl.M, data.qfrc_smooth)
      start = {'qacc_smooth': smooth, 'qacc_warmstart': smooth}
      data = solve(env.model, data.replace(**start))
      applied = data._impl.M @ data.qacc - data.qfrc_smooth
      return jp.abs(applied - data.qfrc_constraint).max()

    with jax.default_matmul_precision('highest'):
      return np.quantile(jax.jit(jax.vmap(gradient))(states), 0.9)

  assert left(newton.solver.solve) > 4 * left(newton.solve), repaired(
    'a solver that converges in float32', 'envs/mjx/newton.py'
  )


def test_noslip():
  fields = {x.lower() for x in mjx.Option.__dataclass_fields__}
  impl = getattr(mjx._src.types, 'OptionJAX', mjx.Option)  # pyright: ignore
  fields |= set(getattr(impl, '__dataclass_fields__', {}))
  assert not any('noslip' in x for x in fields), repaired(
    'noslip iterations', f'{noslip.__name__}, or its pass would run twice'
  )


def test_tendons_are_fixed():
  prm = checks.load('point_mass-hard').model.wrap_prm
  assert not isinstance(prm, jax.Array), repaired(
    'tendons that differ from episode to episode',
    'the sites that motors push at in envs/point_mass.py',
  )


def test_warps_plane_capsule():
  """Its source: `envs.warp.worlds` has replaced the function by then."""
  core = importlib.util.find_spec('mujoco.mjx.third_party.mujoco_warp')
  assert core is not None and core.origin is not None
  path = Path(core.origin).parent / '_src' / 'collision_primitive_core.py'
  source = path.read_text().partition('def plane_capsule(')[2]
  assert 'if b_norm < 0.5:' in source.partition('\n@wp.func')[0], repaired(
    "Warp's capsules on planes, issue 2774",
    'plane_capsule in envs/warp/worlds.py',
  )


def test_energy_is_refused():
  model = mujoco.MjModel.from_xml_string(
    '<mujoco><option><flag energy="enable"/></option></mujoco>'
  )
  try:
    mjx.put_model(model, impl='jax')
  except NotImplementedError:
    return
  pytest.fail(
    repaired('energy', 'the edit of enableflags in envs/mjx/models.py')
  )


def test_kinematics_normalise_quaternions():
  model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><body><freejoint/><geom size="1"/></body></worldbody>'
    '</mujoco>'
  )
  mjx_model = mjx.put_model(model, impl='jax')
  qpos = jp.array([0.0, 0, 0, 2, 0, 0, 0])
  data = mjx.make_data(model, impl='jax').replace(qpos=qpos)
  found = jax.jit(smooth.kinematics)(mjx_model, data).qpos
  assert np.any(np.asarray(found) != qpos), repaired(
    'quaternions stay as they are', 'the last line of physics.forward'
  )


def test_what_is_replaced_for_speed_is_still_there():
  """There is nothing to drop, but a name that is gone would correct nothing."""
  corrections.install()
  for module, name in (
    (corrections.scan, 'body_tree'),
    (corrections.support, 'jac'),
    (corrections.smooth, 'subtree_vel'),
  ):
    replaced = inspect.unwrap(getattr(module, name))
    assert replaced.__module__ == module.__name__, (
      f'MJX {mujoco.__version__} has no {name} in {module.__name__} any more: '
      'see what envs/mjx/corrections.py puts there'
    )
