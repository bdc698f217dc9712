"""Counts of what the physics left out, against what happens with more room."""

import copy

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from mjx_crossq.envs import prng
from mjx_crossq.envs.mjx import (
  colliders,
  contacts,
  corrections,
  physics,
  shortfalls,
)
from tests.envs import checks

_MODEL = """
<mujoco>
  <custom><numeric name="{}" data="{}"/></custom>
  <worldbody>
    <geom {}/>
    {}
  </worldbody>
</mujoco>
"""


def _bodies(geom, count):
  body = '<body pos="{} 0 0"><freejoint/><geom {}/></body>'
  return ''.join(body.format(9 * i, geom) for i in range(1, count + 1))


def _ellipsoids(setting):
  """Five of them and a box; a setting is 2."""
  box = 'type="box" size=".1 .1 .1"'
  bodies = _bodies('type="ellipsoid" size=".1 .2 .3"', 5)
  return _MODEL.format(setting, 2, box, bodies)


def _counted(xml, positions):
  """The counts of the contacts at positions of free bodies, `(bodies, 3)`."""
  corrections.install()
  model = mujoco.MjModel.from_xml_string(xml)
  qpos = np.tile([0.0, 0, 0, 1, 0, 0, 0], (len(positions), 1))
  qpos[:, :3] = positions
  data = mjx.make_data(model, impl='jax').replace(
    qpos=jp.asarray(qpos.ravel(), jp.float32)
  )
  model = mjx.put_model(model, impl='jax')
  data = physics.poses(model, data)
  found = shortfalls.of(jax.jit(contacts.collision)(model, data))
  assert found['solver_capped'] == 0
  return int(found['contacts_dropped'])


def test_contacts_without_a_slot_are_counted():
  floor, spheres = 'type="plane" size="9 9 .1"', _bodies('size=".5"', 6)
  xml = _MODEL.format('max_contact_points', 3, floor, spheres)
  for touching in range(7):
    positions = np.zeros((6, 3))
    positions[:, 0] = 9 * np.arange(6)
    positions[:, 2] = np.where(np.arange(6) < touching, 0.4, 1)
    assert _counted(xml, positions) == max(touching - 3, 0)


def test_pairs_that_may_touch_and_are_not_looked_at_are_counted():
  xml = _ellipsoids('max_geom_pairs')
  for near in range(6):
    positions = np.zeros((5, 3))
    positions[:, 0] = np.where(np.arange(5) < near, 0.1, 9)
    # The ellipsoids are far from each other or have pairs of their own.
    positions[:, 1] = 100 * np.arange(5) * (positions[:, 0] > 1)
    others = _pairs(near)
    assert _counted(xml, positions) == max(near - 2, 0) + max(others - 2, 0)


def _pairs(count):
  return count * (count - 1) // 2


def test_pairs_that_a_collider_leaves_undecided_are_counted(monkeypatch):
  """Of more pairs than are solved, those not proven apart.

  Those of two ellipsoids, and of an ellipsoid and a box, are one group.
  """
  monkeypatch.setattr(colliders, 'EXACT_PAIRS', 2)
  for collide in colliders.COLLIDERS.values():
    if hasattr(collide, 'exact_pairs'):
      monkeypatch.setattr(collide, 'exact_pairs', 2)
  xml = _ellipsoids('another')
  for near in (0, 1, 2, 4):
    positions = np.zeros((5, 3))
    positions[:, 0] = np.where(np.arange(5) < near, 0.1, 9)
    positions[:, 1] = 100 * np.arange(5) * (positions[:, 0] > 1)
    others = _pairs(near)
    assert _counted(xml, positions) == max(near + others - 2, 0)


@pytest.fixture(scope='module')
def landing():
  """Hoppers that have fallen to the floor, and their actions."""
  env = checks.load('hopper-hop')
  step = jax.jit(jax.vmap(env.step))
  state = jax.jit(jax.vmap(env.reset))(jax.random.split(prng.key(0), 16))
  rng = np.random.RandomState(0)
  actions = rng.uniform(-1, 1, (16, env.action_size)).astype(np.float32)
  for _ in range(30):
    state = step(state, actions)
    counts = jax.vmap(env.watch)(state)
    assert counts.keys() == set(env.watched)
    assert not any(np.any(x) for x in counts.values())
  return env, state, actions


def _limited(env, iterations):
  limited = copy.copy(env)
  model = env.model.tree_replace({'opt.iterations': iterations})
  limited.model = model
  return limited


@pytest.mark.slow
def test_solves_that_end_at_the_cap_are_counted(landing):
  """Where none is counted, more iterations change roundings alone."""
  env, state, actions = landing
  exact = jax.jit(jax.vmap(env.step))(state, actions)
  capped = _limited(env, 2)
  after = jax.jit(jax.vmap(capped.step))(state, actions)
  count = np.asarray(jax.vmap(capped.watch)(after)['solver_capped'])
  assert count.max() > 1, 'of several physics steps'
  assert count.max() <= env.substeps
  apart = np.abs(np.asarray(after.qvel) - np.asarray(exact.qvel)).max(axis=1)
  assert (count == 0).any() and apart[count == 0].max() < 1e-5
  assert apart[count > 0].max() > 1e-3
  # A step counts anew.
  again = jax.jit(jax.vmap(env.step))(after, actions)
  assert not np.any(jax.vmap(env.watch)(again)['solver_capped'])
