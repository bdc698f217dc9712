"""Our colliders against C MuJoCo, on random pairs of all kinds.

C computes boxes with boxes and capsules in closed form: ours must be equal,
save where C itself gives another answer to poses that differ by 1e-6; then ours
must be one of these answers.

C's contacts of ellipsoids are those of an iteration (GJK, EPA), here with
`ccd_tolerance` 1e-10 and 1,000 iterations. Where it fails all the same, ours is
held against the separation along C's own normal, in float64: any direction's is
a lower bound of the distance. Where faces and edges lie on each other, C's
contact of a cylinder and a box is anywhere in what touches.
"""

import dataclasses
import functools
import itertools
import types as types_lib

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco.mjx._src import collision_driver
from mujoco.mjx._src.collision_types import GeomInfo
from mujoco.mjx._src.types import GeomType

from mjx_crossq.envs.mjx import colliders, corrections
from mjx_crossq.envs.mjx.colliders import (
  box_box,
  capsule_box,
  cylinder,
  hfield,
  plane_box,
)
from mjx_crossq.envs.mjx.colliders import smooth as ellipsoids

from . import checks

_SIZES = {
  'plane': 3,
  'sphere': 1,
  'capsule': 2,
  'ellipsoid': 3,
  'cylinder': 2,
  'box': 3,
}
_FLAT = ('cylinder', 'box')


def _with_ellipsoid(kind):
  return functools.partial(ellipsoids.collide, kind=kind)


_CURVED = {
  ('sphere', 'ellipsoid'): _with_ellipsoid(GeomType.SPHERE),
  ('capsule', 'ellipsoid'): _with_ellipsoid(GeomType.CAPSULE),
  ('ellipsoid', 'ellipsoid'): _with_ellipsoid(GeomType.ELLIPSOID),
  ('ellipsoid', 'box'): lambda x, y: ellipsoids.collide(y, x, GeomType.BOX),
  ('ellipsoid', 'cylinder'): cylinder.ellipsoid_cylinder,
  _FLAT: cylinder.cylinder_box,
}
_BOXES = {
  ('plane', 'box'): plane_box.plane_box,
  ('capsule', 'box'): capsule_box.capsule_box,
  ('box', 'box'): box_box.box_box,
}
_CAPSULE = ('capsule', 'cylinder')
_COLLIDERS = {**_CURVED, **_BOXES, _CAPSULE: cylinder.capsule_cylinder}
_CHUNK = 400
_COUNTS = [400, pytest.param(10_000, marks=pytest.mark.slow)]
_DEGENERATE = 3
"""The kind from which on poses are special: see `_draw`."""


@dataclasses.dataclass
class Pairs:
  """Poses `(n, 2, 3)`, `(n, 2, 3, 3)`, sizes `(n, 2, 3)` and kinds `(n,)`."""

  pos: np.ndarray
  mat: np.ndarray
  size: np.ndarray
  kind: np.ndarray

  def __len__(self):
    return len(self.pos)

  @property
  def scale(self):
    return self.size.max(axis=(1, 2))


def _matrix(quat):
  mat = np.zeros(9)
  mujoco.mju_quat2Mat(mat, quat / np.linalg.norm(quat))
  return mat.reshape(3, 3)


def _support(kind, size, mat, normal):
  """The support function of a geom, along normals `(..., 3)`."""
  local = normal @ mat
  match kind:
    case 'plane':
      return 0.0
    case 'sphere':
      return size[0]
    case 'capsule':
      return size[0] + size[1] * np.abs(local[..., 2])
    case 'ellipsoid':
      return np.linalg.norm(size * local, axis=-1)
    case 'cylinder':
      across = np.linalg.norm(local[..., :2], axis=-1)
      return size[0] * across + size[1] * np.abs(local[..., 2])
    case 'box':
      return np.abs(local) @ size


def _separation(types, pairs, i, normal):
  apart = pairs.pos[i, 1] - pairs.pos[i, 0]
  supports = [
    _support(types[k], pairs.size[i, k], pairs.mat[i, k], normal)
    for k in (0, 1)
  ]
  return normal @ apart - sum(supports)


_TURNS = [
  np.array(rows)
  for signs in itertools.product((-1, 1), repeat=3)
  for order in itertools.permutations(range(3))
  for rows in [np.diag(signs)[list(order)]]
  if np.linalg.det(rows) > 0
]


def _draw(types, rng):
  """One pair: sizes from 2 to 20 cm in every direction.

  Kinds: 0 of any depth, 1 shallow or apart, 2 grazing, 3 parallel or nearly so,
  4 displaced along an axis, with equal orientations now and then.
  """
  kind = rng.randint(5)
  sizes = np.zeros((2, 3))
  for k, name in enumerate(types):
    count = _SIZES[name]
    sizes[k, :count] = np.exp(rng.uniform(np.log(0.02), np.log(0.2), count))
  mats = [_matrix(rng.normal(size=4)) for _ in types]
  direction = rng.normal(size=3)
  direction /= np.linalg.norm(direction)
  if kind == 3 or (kind == 4 and rng.rand() < 0.3):
    mats[1] = mats[0] @ _TURNS[rng.randint(len(_TURNS))]
    if rng.rand() < 0.5:
      tilt = rng.normal(size=3) * 10 ** rng.uniform(-7, -2)
      mats[1] = mats[1] @ _matrix(np.append(1, tilt))
  if kind == 4:
    direction = mats[0][:, rng.randint(3)] * rng.choice([-1, 1])
  if types[0] == 'plane':
    direction = mats[0][:, 2]
  reach = sum(
    _support(*x, direction) for x in zip(types, sizes, mats, strict=True)
  )
  share = (
    rng.uniform(0.02, 1),
    rng.uniform(0.8, 1.02),
    1 - 10 ** rng.uniform(-6, -2),
    rng.uniform(0.5, 1),
    rng.uniform(0.5, 1.01),
  )[kind]
  pos = rng.normal(size=3) * 0.1
  return [pos, pos + direction * reach * share], mats, sizes, kind


@functools.cache
def _pairs(types, count):
  rng = np.random.RandomState(0)
  drawn = [_draw(types, rng) for _ in range(count)]
  return Pairs(*map(np.array, zip(*drawn, strict=True)))


def _nudged(pairs, i, count=64):
  """One pair in poses within 1e-6 of its size and 1e-6 radians."""
  rng = np.random.RandomState(i)
  again = {
    f.name: np.repeat(getattr(pairs, f.name)[i : i + 1], count, axis=0)
    for f in dataclasses.fields(pairs)
  }
  shift, turn = 1e-6 * rng.uniform(-1, 1, size=(2, count, 2, 3))
  again['pos'] = again['pos'] + shift * pairs.scale[i]
  turns = [[_matrix(np.append(1, x)) for x in row] for row in turn]
  again['mat'] = again['mat'] @ np.array(turns)
  return Pairs(**again)


def _model(types, tolerance, iterations):
  sizes = [' '.join(['1'] * _SIZES[x]) for x in types]
  return mujoco.MjModel.from_xml_string(f"""
  <mujoco>
    <option ccd_tolerance="{tolerance}" ccd_iterations="{iterations}"/>
    <worldbody>
      <body mocap="true"><geom type="{types[0]}" size="{sizes[0]}"/></body>
      <body><freejoint/><geom type="{types[1]}" size="{sizes[1]}"/></body>
    </worldbody>
  </mujoco>""")


def _stock(types, pairs, tolerance=1e-6, iterations=35):
  """C's contacts of each pair: distances, positions and normals."""
  model = _model(types, tolerance, iterations)
  data = mujoco.MjData(model)
  result = []
  for pos, mat, size in zip(pairs.pos, pairs.mat, pairs.size, strict=True):
    # Bounds of the unit sizes stay, which are larger.
    model.geom_size[:] = size
    data.mocap_pos[0], data.qpos[:3] = pos
    mujoco.mju_mat2Quat(data.mocap_quat[0], mat[0].ravel())
    mujoco.mju_mat2Quat(data.qpos[3:], mat[1].ravel())
    mujoco.mj_kinematics(model, data)
    mujoco.mj_collision(model, data)
    contact, count = data.contact, data.ncon
    result.append(
      (
        contact.dist[:count].copy(),
        contact.pos[:count].copy(),
        contact.frame[:count].reshape(-1, 3, 3).copy(),
      )
    )
  return result


@functools.cache
def _compiled(types):
  collide = _COLLIDERS[types]

  @jax.jit
  @jax.vmap
  def both(pos, mat, size):
    with jax.default_matmul_precision('highest'):
      return collide(
        GeomInfo(pos[0], mat[0], size[0]), GeomInfo(pos[1], mat[1], size[1])
      )

  return both


def _ours(types, pairs):
  """As `_stock`, every slot of it."""
  parts = []
  for start in range(0, len(pairs), _CHUNK):
    part = slice(start, start + _CHUNK)
    parts.append(
      _compiled(types)(
        *(
          jp.asarray(x[part], jp.float32)
          for x in (pairs.pos, pairs.mat, pairs.size)
        )
      )
    )
  return [
    np.concatenate(x).astype(np.float64) for x in zip(*parts, strict=True)
  ]


def _matched(ours, stock):
  """Our touching contacts in C's order, or None if their number differs."""
  touching = np.flatnonzero(ours[0] <= 0)
  if len(touching) != len(stock[0]):
    return None
  apart = ours[1][touching][None] - stock[1][:, None]
  order = np.linalg.norm(apart, axis=2)
  index = []
  for row in order:
    index.append(int(np.argmin(row)))
    order[:, index[-1]] = np.inf
  return tuple(x[touching][index] for x in ours)


def _errors(ours, stock, scale):
  """Of distance, normal and position, in units of size; infinite if lacking."""
  matched = _matched(ours, stock)
  if matched is None:
    return (np.inf,) * 3
  if not len(stock[0]):
    return (0.0,) * 3
  dist, pos, frame = (x - y for x, y in zip(matched, stock, strict=True))
  return (
    np.abs(dist).max() / scale,
    np.linalg.norm(frame[:, 0], axis=1).max(),
    np.linalg.norm(pos, axis=1).max() / scale,
  )


_BOUNDS = np.array([1e-5, 1e-3, 1e-4])
"""Of distance, normal and position."""


def _is_one_of(ours, answers, scale):
  """Whether contacts are those of one of C's answers, within the bounds."""
  errors = [_errors(ours, answer, scale) for answer in answers]
  return any((np.array(error) < 2 * _BOUNDS).all() for error in errors)


@pytest.mark.parametrize('count', _COUNTS)
@pytest.mark.parametrize('types', _BOXES)
def test_boxes_equal_c(types, count):
  pairs = _pairs(types, count)
  stock = _stock(types, pairs)
  dist, pos, frame = _ours(types, pairs)
  assert np.isfinite(dist).all() and np.isfinite(pos).all()
  np.testing.assert_allclose(
    np.einsum('nkij,nklj->nkil', frame, frame),
    np.broadcast_to(np.eye(3), frame.shape),
    atol=1e-5,
  )
  ours = list(zip(dist, pos, frame[:, :, :1], strict=True))
  stock = [(d, p, f[:, :1]) for d, p, f in stock]
  unclear, touching = 0, 0
  for i, scale in enumerate(pairs.scale):
    touching += len(stock[i][0]) > 0
    if (np.array(_errors(ours[i], stock[i], scale)) < _BOUNDS).all():
      continue
    # Then C is of two minds, and ours is one of its answers.
    unclear += pairs.kind[i] < _DEGENERATE
    near = _nudged(pairs, i)
    answers = [(d, p, f[:, :1]) for d, p, f in _stock(types, near)]
    if not _is_one_of(ours[i], answers, scale):
      # Or ours is of two minds, and nearly always agrees with C.
      assert pairs.kind[i] >= _DEGENERATE, i
      d, p, f = _ours(types, near)
      agree = [
        _is_one_of(own, answers, scale)
        for own in zip(d, p, f[:, :, :1], strict=True)
      ]
      assert np.mean(agree) > 0.9, (i, pairs.kind[i], np.mean(agree))
  assert touching > 0.3 * count
  assert unclear <= 0.005 * count


def test_boxes_that_move_in_one_plane_equal_c():
  """Stacker's: edges of one lie on the borders of the other's face."""
  rng = np.random.RandomState(0)
  poses = []
  for _ in range(400):
    width, height, depth = np.exp(rng.uniform(np.log(0.02), np.log(0.2), 3))
    sizes = np.array([[width, depth, height]] * 2)
    mats = [
      _matrix(np.array([np.cos(x), 0, np.sin(x), 0]))
      for x in rng.uniform(-np.pi, np.pi, 2)
    ]
    direction = mats[0][:, rng.choice([0, 2])] * rng.choice([-1, 1])
    reach = sum(
      _support('box', x, m, direction) for x, m in zip(sizes, mats, strict=True)
    )
    aside = np.cross(direction, [0, 1, 0]) * rng.uniform(-1, 1) * width
    pos = np.array([0.1, 0, 0.2])
    apart = direction * reach * rng.uniform(0.8, 0.999) + aside
    poses.append(([pos, pos + apart], mats, sizes, 0))
  pairs = Pairs(*map(np.array, zip(*poses, strict=True)))
  stock = _stock(('box', 'box'), pairs)
  counts = np.array([len(d) for d, _, _ in stock])
  dist, pos, frame = _ours(('box', 'box'), pairs)
  assert (counts >= 4).mean() > 0.2
  np.testing.assert_array_equal((dist < 0).sum(axis=1), counts)
  for i, scale in enumerate(pairs.scale):
    d, p, f = stock[i]
    ours = dist[i], pos[i], frame[i, :, :1]
    assert (np.array(_errors(ours, (d, p, f[:, :1]), scale)) < _BOUNDS).all(), i


@pytest.mark.parametrize('count', _COUNTS)
@pytest.mark.parametrize('types', _CURVED)
def test_ellipsoids_equal_c(types, count):
  pairs = _pairs(types, count)
  stock = _stock(types, pairs, tolerance=1e-10, iterations=1000)
  dist, pos, frame = _ours(types, pairs)
  rough, unlike, off, touching = 0, 0, 0, 0
  for i, scale in enumerate(pairs.scale):
    normal = frame[i, 0]
    np.testing.assert_allclose(frame[i] @ frame[i].T, np.eye(3), atol=1e-5)
    own = _separation(types, pairs, i, normal)
    assert abs(own - dist[i]) < 2e-6 * scale
    c_dist, c_pos, c_frame = stock[i]
    if not len(c_dist):
      assert dist[i] > -1e-6 * scale, i  # No false contact.
      continue
    assert dist[i] < 1e-6 * scale, i  # None missing.
    touching += 1
    certain = _separation(types, pairs, i, c_frame[0, 0])
    # One of 10,000 climbs ends beside a corner of an aligned cylinder.
    aligned = 'cylinder' in types and pairs.kind[i] >= _DEGENERATE
    slack = (2e-4 if aligned else 2e-6) * scale
    assert dist[i] > certain - slack, i  # No deeper than C's normal.
    special = types == _FLAT and pairs.kind[i] >= _DEGENERATE
    if abs(certain - c_dist[0]) > 1e-6 * scale:
      rough += not special  # C's depth is not what its normal gives.
      continue
    assert abs(dist[i] - c_dist[0]) < max(1e-5 * scale, slack), i
    if np.linalg.norm(normal - c_frame[0, 0]) > 1e-3:
      # Not unique: two directions give the same depth.
      assert abs(own - certain) < (slack if aligned else 1e-6 * scale), i
      unlike += pairs.kind[i] < _DEGENERATE
      continue
    if not special:
      off += np.linalg.norm(pos[i] - c_pos[0]) > 1e-4 * scale
  assert touching > 0.3 * count
  assert rough < 0.05 * touching
  assert unlike < 0.01 * touching
  assert off < 0.02 * touching


def test_the_normal_beside_a_cylinders_face_is_found():
  """Its face has nearly the depth of the normal, which is 9 degrees aside."""
  turn = np.array(
    [
      [-0.780302983, -0.038016790, -0.624245127],
      [0.602599344, 0.221367107, -0.766727223],
      [0.167335846, -0.974449243, -0.149824521],
    ]
  )
  pairs = Pairs(
    pos=np.array([[[0.029515874, 0.036252785, 0.007084079], np.zeros(3)]]),
    mat=np.array([[turn, np.eye(3)]]),
    size=np.array(
      [
        [
          [0.028011308, 0.049201701, 0],
          [0.02767684, 0.022696817, 0.030069746],
        ]
      ]
    ),
    kind=np.array([0]),
  )
  ((expected, _, _),) = _stock(_FLAT, pairs, tolerance=1e-10, iterations=1000)
  dist, _, _ = _ours(_FLAT, pairs)
  np.testing.assert_allclose(dist, expected, atol=1e-6)


@pytest.mark.parametrize('count', _COUNTS)
def test_capsules_on_cylinders_equal_c(count):
  """While the capsule's segment is outside; else there are contacts in both."""
  pairs = _pairs(_CAPSULE, count)
  stock = _stock(_CAPSULE, pairs, tolerance=1e-10, iterations=1000)
  dist, pos, frame = _ours(_CAPSULE, pairs)
  compared, two, unclear = 0, 0, 0
  for i, scale in enumerate(pairs.scale):
    ours = dist[i], pos[i], frame[i, :, :1]
    d, p, f = stock[i]
    if len(d) == 2 and np.linalg.norm(p[0] - p[1]) < 1e-9:
      d, p, f = d[:1], p[:1], f[:1]  # Now and then C has one twice.
    assert (dist[i].min() < 0) == (len(d) > 0), i
    if not len(d) or dist[i].min() < -0.999 * pairs.size[i, 0, 0]:
      continue
    compared += 1
    two += len(d) == 2
    if (np.array(_errors(ours, (d, p, f[:, :1]), scale)) < _BOUNDS).all():
      continue
    assert pairs.kind[i] >= _DEGENERATE, i
    unclear += 1
  assert compared > 0.25 * count
  assert two > 0.03 * count
  assert unclear < 0.05 * compared


@pytest.mark.parametrize('types', _CURVED)
def test_no_direction_separates_more(types):
  """Against 20,000 directions, in float64."""
  pairs = _pairs(types, 400)
  dist, _, _ = _ours(types, pairs)
  normals = np.random.RandomState(1).normal(size=(20_000, 3))
  normals /= np.linalg.norm(normals, axis=1, keepdims=True)
  for i in range(40):
    apart = _separation(types, pairs, i, normals)
    assert dist[i] > apart.max() - 1e-6 * pairs.scale[i]
    # The directions are dense enough to be near, less so at a sharp maximum.
    near = 0.05 if types == _FLAT else 0.02
    assert dist[i] < apart.max() + near * pairs.scale[i]


def _few_near(types, count):
  """400 pairs, all but so many of them apart."""
  pairs = _pairs(types, 400)
  pos = pairs.pos.copy()
  pos[count:, 1, 0] += 1
  return dataclasses.replace(pairs, pos=pos)


def _assert_touching_are_exact(collide, pairs, exact):
  """All pairs that touch, few enough, are among those solved exactly.

  Args:
    collide: contacts by model, data and numbers of geoms, `(n, 2)`.
    pairs: the pairs.
    exact: their distances, positions and frames.
  """
  model = types_lib.SimpleNamespace(
    geom_size=jp.asarray(pairs.size.reshape(-1, 3), jp.float32)
  )
  data = types_lib.SimpleNamespace(
    geom_xpos=jp.asarray(pairs.pos.reshape(-1, 3), jp.float32),
    geom_xmat=jp.asarray(pairs.mat.reshape(-1, 3, 3), jp.float32),
  )
  geom = jp.arange(2 * len(pairs)).reshape(-1, 2)
  with jax.default_matmul_precision('highest'):
    found = jax.jit(lambda geom: collide(model, data, geom))(geom)
  dist, pos, frame = map(np.asarray, found)
  exact, exact_pos, exact_frame = exact
  touching = exact < 0
  assert 10 < touching.sum() < colliders.EXACT_PAIRS
  assert ((dist < 0) == touching).all()
  assert (dist[~touching] < exact[~touching] + 1e-6).all()  # Lower bounds.
  scale = pairs.scale.max()
  np.testing.assert_allclose(dist[touching], exact[touching], atol=2e-6 * scale)
  np.testing.assert_allclose(pos[touching], exact_pos[touching], atol=1e-4)
  np.testing.assert_allclose(frame[touching], exact_frame[touching], atol=1e-2)


def _geom_types(types):
  return tuple(getattr(GeomType, x.upper()) for x in types)


@pytest.mark.parametrize('types', _CURVED)
def test_two_stages_equal_one(types):
  pairs = _few_near(types, 40)
  collide = colliders.COLLIDERS[_geom_types(types)]
  _assert_touching_are_exact(
    lambda model, data, geom: collide(model, data, None, geom),
    pairs,
    _ours(types, pairs),
  )


def test_all_kinds_in_one_group():
  kinds = [x for x in _CURVED if _geom_types(x) in colliders.WITH_ELLIPSOID]
  assert len(kinds) == 4
  parts = [_few_near(types, 10) for types in kinds]
  fields = (
    np.concatenate([getattr(part, field.name) for part in parts])
    for field in dataclasses.fields(Pairs)
  )
  types = np.repeat([_geom_types(x) for x in kinds], 400, axis=0)
  exact = [_ours(*x) for x in zip(kinds, parts, strict=True)]
  _assert_touching_are_exact(
    lambda *x: colliders.with_ellipsoids(*x, types),
    Pairs(*fields),
    [np.concatenate(x) for x in zip(*exact, strict=True)],
  )


_SCENE = """
<mujoco>
  <option ccd_tolerance="1e-10" ccd_iterations="1000"/>
  <worldbody>
    <body><freejoint/><geom type="ellipsoid" size=".1 .02 .05"/></body>
    <body><freejoint/><geom type="box" size=".05 .06 .03"/></body>
  </worldbody>
</mujoco>
"""


@pytest.mark.slow
def test_contacts_in_mjx_equal_c():
  """Of a pair that MJX has no collider for, through MJX's own driver."""
  model = mujoco.MjModel.from_xml_string(_SCENE)
  data = mujoco.MjData(model)
  rng = np.random.RandomState(0)
  qpos = rng.normal(size=(200, model.nq))
  qpos.reshape(200, -1, 7)[:, :, :3] *= 0.05

  ours = checks.contacts(model, qpos)
  touching = 0
  for i in range(len(qpos)):
    data.qpos[:] = qpos[i]
    mujoco.mj_forward(model, data)
    assert (ours.dist[i, 0] < 0) == data.ncon
    if data.ncon:
      touching += 1
      np.testing.assert_allclose(ours.dist[i], data.contact.dist, atol=1e-6)
      np.testing.assert_allclose(ours.pos[i], data.contact.pos, atol=1e-5)
      assert (ours.geom[i] == data.contact.geom).all()
  assert touching > 50


def test_slots_of_the_table():
  corrections.install()
  table = collision_driver._COLLISION_FUNC
  for types, collider in colliders.COLLIDERS.items():
    assert table[types] is collider
  counts = {x.ncon for x in colliders.COLLIDERS.values()}  # pyright: ignore
  assert counts == {1, 2, plane_box.CONTACTS, box_box.CONTACTS, hfield.SLOTS}
