"""Height fields: contacts with them and rays to them, against C MuJoCo.

C computes the contact of a prism and a sphere or capsule in closed form while
the centre line is outside; all other contacts by an iteration (EPA), here with
`ccd_tolerance` 1e-10 and 1,000 iterations. With the suite's 1e-6 and 35, C's
normals of ellipsoids are off by 6e-4 in the median and by up to 3e-2.
"""

import functools

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco import mjx
from mujoco.mjx._src import sensor

from mjx_crossq.envs.mjx import contacts, corrections, physics, rays, shortfalls
from mjx_crossq.envs.mjx.colliders import hfield

_COUNTS = [400, pytest.param(10_000, marks=pytest.mark.slow)]
_CHUNK = 400
_BOUNDS = 3e-6, 1e-3, 1e-4
"""Of distance (metres), normal and position (metres)."""
_ROWS, _COLUMNS = 17, 21
_SIZES = {'sphere': 1, 'capsule': 2, 'ellipsoid': 3, 'cylinder': 2}
_LARGEST = 0.3
_SCENE = """
<mujoco>
  <option ccd_tolerance="1e-10" ccd_iterations="1000"/>
  <custom><numeric name="max_contact_points" data="{slots}"/></custom>
  <asset>
    <hfield name="field" nrow="{rows}" ncol="{columns}" size="3 2 1.5 .1"/>
  </asset>
  <worldbody>
    <body mocap="true"><geom type="hfield" hfield="field"/></body>
    {bodies}
  </worldbody>
</mujoco>"""
_BODY = '<body><freejoint/><geom type="{}" size="{}"/></body>'


def _model(types, slots=32):
  bodies = [
    _BODY.format(x, ' '.join([str(_LARGEST)] * _SIZES[x])) for x in types
  ]
  return mujoco.MjModel.from_xml_string(
    _SCENE.format(
      rows=_ROWS, columns=_COLUMNS, slots=slots, bodies=''.join(bodies)
    )
  )


def _put(model):
  """The model on the device, and data of it."""
  return mjx.put_model(model, impl='jax'), mjx.make_data(model, impl='jax')


def _terrain(rng):
  """Heights in [0, 1]: gentle, rough, or nearly flat with steps."""
  kind = rng.randint(3)
  heights = rng.uniform(0, 1, (_ROWS, _COLUMNS))
  if kind == 0:
    x, y = np.meshgrid(np.arange(_COLUMNS), np.arange(_ROWS))
    a, b, c, d = rng.uniform(0, 1, 4)
    heights = 0.5 + 0.25 * (np.sin(a * x + 6 * c) + np.sin(b * y + 6 * d))
  elif kind == 2:
    heights = np.round(2 * heights) * 0.03
  return heights.astype(np.float32)


def _place(model, data, field, geom):
  """Sets the poses `(7,)` of the field and the geom, and finds contacts."""
  data.mocap_pos[0], data.mocap_quat[0] = field[:3], field[3:]
  data.qpos[:] = geom
  mujoco.mj_kinematics(model, data)
  mujoco.mj_collision(model, data)
  return data.ncon


@functools.cache
def _stock(kind, count):
  """Random configurations, and C's contacts in them.

  Each geom is lowered until it touches, and then by up to its least size, as a
  rule by far less.
  """
  model = _model([kind])
  data = mujoco.MjData(model)
  rng = np.random.RandomState(0)
  rows = []
  for _ in range(count):
    terrain = _terrain(rng)
    size = np.zeros(3)
    number = _SIZES[kind]
    size[:number] = np.exp(rng.uniform(*np.log([0.03, _LARGEST]), number))
    model.hfield_data[:], model.geom_size[1] = terrain.ravel(), size
    turn = rng.normal(size=4) if rng.rand() < 0.3 else [1, 0, 0, 0]
    field = np.r_[rng.normal(size=3), turn / np.linalg.norm(turn)]
    turn = rng.normal(size=4)
    turn /= np.linalg.norm(turn)
    frame = np.zeros(9)
    mujoco.mju_quat2Mat(frame, field[3:])
    across = rng.uniform(-1, 1, 2) * [3.1, 2.1]  # Some are beside the field.

    def pose(height, across=across, field=field, frame=frame, turn=turn):
      local = np.append(across, height)
      return np.r_[field[:3] + frame.reshape(3, 3) @ local, turn]

    low, high = -0.2, 3.0
    for _ in range(20):
      middle = (low + high) / 2
      touches = _place(model, data, field, pose(middle))
      low, high = (middle, high) if touches else (low, middle)
    depth = 10 ** rng.uniform(-5, np.log10(size[:number].min()))
    geom = pose(high - depth if rng.rand() < 0.9 else high + depth)
    # Ours begins with rounded poses.
    field, geom = (x.astype(np.float32).astype(float) for x in (field, geom))
    _place(model, data, field, geom)
    found = [
      data.contact.dist.copy(),
      data.contact.pos.copy(),
      data.contact.frame[:, :3].copy(),
    ]
    frames = data.geom_xmat.reshape(-1, 3, 3).copy()
    rows.append((terrain.ravel(), size, data.geom_xpos.copy(), frames, found))
  columns = list(zip(*rows, strict=True))
  return [np.array(x) for x in columns[:4]], columns[4]


@functools.cache
def _compiled(kind):
  corrections.install()
  model = _model([kind])
  ours, empty = _put(model)

  @jax.jit
  @jax.vmap
  def collide(terrain, size, pos, mat):
    data = empty.replace(geom_xpos=pos, geom_xmat=mat)
    sizes = ours.geom_size.at[1].set(size)
    changed = ours.replace(hfield_data=terrain, geom_size=sizes)
    with jax.default_matmul_precision('highest'):
      data = contacts.collision(changed, data)
    contact = data._impl.contact
    dropped = shortfalls.of(data)['contacts_dropped']
    return contact.dist, contact.pos, contact.frame, dropped

  return collide


def _ours(kind, arrays):
  parts = []
  for start in range(0, len(arrays[0]), _CHUNK):
    part = [jp.asarray(x[start : start + _CHUNK], jp.float32) for x in arrays]
    parts.append(_compiled(kind)(*part))
  return [np.concatenate(x) for x in zip(*parts, strict=True)]


def _matched(ours, stock):
  """Each contact of C's with one of ours: errors and the depth, `(k, 4)`."""
  dist, pos, normal = ours
  left, errors = list(range(len(dist))), []
  for d, p, n in zip(*stock, strict=True):
    errors_of = [
      (
        abs(dist[j] - d),
        np.linalg.norm(normal[j] - n),
        np.linalg.norm(pos[j] - p),
        -d,
      )
      for j in left
    ]
    best = int(np.argmin([e[0] + e[1] / 10 + e[2] for e in errors_of]))
    errors.append(errors_of[best])
    left.pop(best)
  return errors


@pytest.mark.parametrize('count', _COUNTS)
@pytest.mark.parametrize('kind', list(_SIZES))
def test_contacts_equal_c(kind, count):
  arrays, stock = _stock(kind, count)
  dist, pos, frame, dropped = _ours(kind, arrays)
  assert (dropped > 0).mean() < 0.002
  np.testing.assert_allclose(
    np.einsum('nkij,nklj->nkil', frame, frame),
    np.broadcast_to(np.eye(3), frame.shape),
    atol=1e-5,
  )
  errors, touching, most, unlike = [], 0, 0, 0
  for i, found in enumerate(stock):
    if dropped[i]:
      continue
    own = np.flatnonzero(dist[i] < 0)
    touching += len(found[0]) > 0
    most = max(most, len(found[0]))
    if len(own) != len(found[0]):
      # One that grazes.
      differ = set(np.sort(dist[i])) | set(found[0])
      assert min(abs(x) for x in differ) < 2e-6, i
      unlike += 1
      continue
    ours = dist[i, own], pos[i, own], frame[i, own, 0]
    share = arrays[1][i, : _SIZES[kind]].min()
    errors += [(*x[:3], x[3] / share) for x in _matched(ours, found)]
  assert touching > 0.7 * count
  assert most >= 6
  assert unlike <= 0.01 * count
  errors = np.array(errors)
  depth, wrong = errors[:, 3], (errors[:, :3] > _BOUNDS).any(axis=1)
  assert 0.02 < (depth > 0.5).mean() < 0.5
  assert wrong.mean() < 0.004


def test_prisms_and_slots_that_are_lacking_are_counted(monkeypatch):
  """A sphere in a flat field touches all prisms under it."""
  model = _model(['sphere', 'sphere'], slots=9)
  model.hfield_data[:] = 0.5
  data = mujoco.MjData(model)
  data.qpos[:3], data.qpos[7:10] = (0.16, 0.13, 0.9), (-0.16, 0.13, 0.9)
  model.geom_contype[1:] = 2  # They do not meet each other.
  mujoco.mj_forward(model, data)
  corrections.install()
  ours, empty = _put(model)
  empty = empty.replace(qpos=jp.asarray(data.qpos, jp.float32))
  empty = physics.poses(ours, empty)

  def found():
    with jax.default_matmul_precision('highest'):
      after = jax.jit(lambda x: contacts.collision(ours, x))(empty)
    dropped = int(shortfalls.of(after)['contacts_dropped'])
    return int((after._impl.contact.dist < 0).sum()), dropped

  assert data.ncon > 16
  monkeypatch.setattr(hfield, 'EXACT', 100)
  assert found() == (9, data.ncon - 9)
  monkeypatch.setattr(hfield, 'EXACT', 4)
  kept, dropped = found()
  assert kept == 4
  assert dropped >= data.ncon - 4


_RAYS = """
<mujoco>
  <asset>
    <hfield name="field" nrow="{rows}" ncol="{columns}" size="3 2 1.5 .1"/>
    <material name="clear" rgba="1 1 1 0"/>
  </asset>
  <worldbody>
    <body mocap="true"><geom type="hfield" hfield="field" {look}/></body>
    <body><freejoint/><geom size=".4"/></body>
    <body mocap="true">
      <geom size=".1"/>
      <site name="eye"/>
      <site name="back" pos="0 0 -.05" zaxis="0 0 -1"/>
    </body>
  </worldbody>
  <sensor>
    <rangefinder site="eye"/>
    <framepos objtype="site" objname="eye"/>
    <rangefinder site="back" cutoff="1"/>
  </sensor>
</mujoco>"""


def _aims(rng):
  """A rangefinder's position, and its direction in the field's frame."""
  kind = rng.randint(5)
  origin = rng.uniform([-3, -2, 0], [3, 2, 1.6])
  direction = rng.normal(size=3) * [1, 1, 0.3]
  if kind == 0:  # From outside, and below.
    origin = rng.uniform([-4, -3, -1], [4, 3, 3])
    direction = rng.normal(size=3)
  elif kind == 1:  # Along the lines of the grid.
    ways = [[0, 0, -1], [1, 0, -0.1], [0, -1, -0.1], [0.3, 0.25, -0.05]]
    direction = np.array(ways[rng.randint(4)])
  return origin, direction / np.linalg.norm(direction)


@pytest.mark.parametrize(
  ('look', 'count'),
  [
    ('', 1000),
    ('material="clear"', 100),
    pytest.param('rgba="1 1 1 0"', 100, marks=pytest.mark.slow),
    pytest.param('', 10_000, marks=pytest.mark.slow),
  ],
)
def test_rangefinders_equal_c(look, count):
  """Rays that start above, below and beside the field, or see through it."""
  model = mujoco.MjModel.from_xml_string(
    _RAYS.format(rows=_ROWS, columns=_COLUMNS, look=look)
  )
  data, rng = mujoco.MjData(model), np.random.RandomState(0)
  rows = []
  for i in range(count):
    model.hfield_data[:] = _terrain(rng).ravel()
    origin, direction = _aims(rng)
    turn = rng.normal(size=4) if i % 2 else np.array([1.0, 0, 0, 0])
    turn /= np.linalg.norm(turn)
    frame, aim = np.zeros(9), np.zeros(4)
    mujoco.mju_quat2Mat(frame, turn)
    frame = frame.reshape(3, 3)
    mujoco.mju_quatZ2Vec(aim, frame @ direction)
    place = rng.normal(size=3)
    data.mocap_pos[:] = np.float32([place, place + frame @ origin])
    data.mocap_quat[:] = np.float32([turn, aim])
    data.qpos[:3] = np.float32(place + frame @ rng.uniform(-1, 1, 3))
    mujoco.mj_forward(model, data)
    rows.append(
      (
        model.hfield_data.copy(),
        data.qpos.copy(),
        data.mocap_pos.copy(),
        data.mocap_quat.copy(),
        data.sensordata.copy(),
      )
    )
  ours, empty = _put(model)

  @jax.jit
  @jax.vmap
  def see(terrain, qpos, pos, quat):
    data = empty.replace(qpos=qpos, mocap_pos=pos, mocap_quat=quat)
    changed = ours.replace(hfield_data=terrain)
    with jax.default_matmul_precision('highest'):
      data = sensor.sensor_pos(changed, physics.poses(changed, data))
      return rays.rangefinders(changed, data).sensordata

  *arrays, stock = (np.array(x) for x in zip(*rows, strict=True))
  readings = np.asarray(see(*(jp.asarray(x, jp.float32) for x in arrays)))
  errors = np.abs(readings - stock)
  share = (stock[:, 0] > 0).mean()
  assert 0 < share < 0.4 if look else 0.4 < share < 0.95
  assert look or (stock[:, 4] == 1).any(), 'the cutoff'
  # A ray that grazes magnifies the rounding of heights.
  assert np.quantile(errors, 0.999) < 5e-6
  assert errors.max() < 1e-4
