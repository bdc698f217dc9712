"""Dog's broadphase and slots against all contacts that C MuJoCo finds.

For each group of geoms of two types, MJX looks at the `max_geom_pairs` whose
bounding spheres are nearest: the pairs that touch must be among them.
"""

import mujoco
import numpy as np
import pytest

from mjx_crossq.envs.mjx import noslip
from mjx_crossq.envs.parity import contacts
from mjx_crossq.envs.parity.records import action_sequences

from . import checks


def rolled_out(count, seed):
  """States of stock rollouts, each physics step's, as its contacts saw it."""
  env = checks.load('dog-run')
  stock = env.stock_env(seed)
  model, data = stock.physics.model.ptr, stock.physics.data.ptr
  rng = np.random.RandomState(seed)
  low, high = model.actuator_ctrlrange.T
  for episode in range(-(-count // 1000)):
    stock.reset()
    actions = action_sequences(rng, env.action_size, episode)
    for step in range(min(1000, count - 1000 * episode)):
      if step % 3 == 0:
        data.ctrl[:] = low + (next(actions) + 1) / 2 * (high - low)
      mujoco.mj_step(model, data)
      yield model, data


def drawn(count, seed):
  """Configurations with joints anywhere in their ranges, near the floor.

  Not those of which some parts are so deep in others that slots do not suffice.
  """
  model = checks.load('dog-run').stock_env(0).physics.model.ptr
  data, rng = mujoco.MjData(model), np.random.RandomState(seed)
  hinges = model.jnt_type == mujoco.mjtJoint.mjJNT_HINGE
  low, high = model.jnt_range[hinges].T
  most = checks.load('dog-run').mj_model.numeric('max_contact_points').data[0]
  while count:
    data.qpos[2] = rng.uniform(0, 0.6)
    data.qpos[3:7] = rng.normal(size=4)
    # From almost the default pose to the ends of all ranges.
    reach = rng.uniform(0.1, 1)
    middle = model.qpos0[model.jnt_qposadr[hinges]]
    drawn = middle + reach * (rng.uniform(low, high) - middle)
    data.qpos[model.jnt_qposadr[hinges]] = drawn
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    mujoco.mj_collision(model, data)
    if np.bincount(data.contact.dim, minlength=1).max(initial=0) <= most:
      count -= 1
      yield model, data


def needs(states):
  """What the states' contacts need.

  Args:
    states: pairs of a C model and its data.

  Returns:
    The number of contacts; the most nearest pairs that a group must keep;
    the most contacts of one condim; the most opposed edges of pyramids.
  """
  members = contacts.groups(checks.load('dog-run').mj_model)
  assert members
  total, pairs, slots, edges = 0, 0, 0, 0
  for model, data in states:
    total += data.ncon
    dims = data.contact.dim
    edges = max(edges, int((dims - 1).sum()))
    slots = max(slots, np.bincount(dims, minlength=1).max(initial=0))
    pairs = max(pairs, contacts.needed_pairs(members, model, data))
  return total, pairs, int(slots), edges


@pytest.mark.slow
@pytest.mark.parametrize('states', [rolled_out, drawn])
def test_pairs_and_slots_suffice(states):
  total, pairs, slots, edges = needs(states(2000, seed=0))
  numbers = checks.load('dog-run').mj_model.numeric
  assert total > 2000
  assert pairs <= numbers('max_geom_pairs').data[0]
  if states is rolled_out:
    assert slots <= numbers('max_contact_points').data[0]
    assert edges <= noslip.MAX_PAIRS
