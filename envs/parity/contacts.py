"""Which contacts stock finds, and whether our model has them and room for them.

`launch.parity` prints these figures beside the errors of `measures`.
"""

from typing import Any

import numpy as np

from mjx_crossq.envs import runtime, suite
from mjx_crossq.envs.base import flatten_observation
from mjx_crossq.envs.mjx import models
from mjx_crossq.envs.parity.records import action_sequences, to_stock
from mjx_crossq.envs.parity.rollouts import Policy

with runtime.quiet():
  from mujoco.mjx._src import collision_driver


def contacts(
  env: suite.SuiteEnv, steps: int, policy: Policy | None = None, seed: int = 0
) -> dict[str, Any]:
  """Stock's contacts in its rollouts, and those that ours lacks.

  Args:
    env: the task.
    steps: control steps, in episodes of 250.
    policy: acts; None for random and scripted actions.
    seed: of the rollouts.

  Returns:
    'dropped' and 'dropped_force', shares of contacts and of their force that
    our model does not compute; 'most', the largest number at once that it does,
    of one condim; 'slots', how many of a condim it has room for, or None;
    'pairs', the most `needed_pairs` of a state; 'kept_pairs', how many our
    model keeps, or None.
  """
  ours, stock = env.mj_model, env.stock_env(seed)
  rng = np.random.RandomState(seed)
  model, data = stock.physics.model.ptr, stock.physics.data.ptr
  members, pairs = groups(ours), 0
  kept = np.zeros(2)
  everything, most, force = np.zeros(2), 0, np.zeros(6)
  for episode in range(-(-steps // 250)):
    timestep = stock.reset()
    actions = action_sequences(rng, env.action_size, episode)
    for _ in range(min(250, steps - 250 * episode)):
      if policy is None:
        action = next(actions)
      else:
        obs = flatten_observation(timestep.observation)
        action = np.asarray(policy(obs[None])[0], np.float64)
      timestep = stock.step(to_stock(env, action))
      # Stock stops before the new state's forces are known.
      models.mujoco.mj_forward(model, data)
      condims: dict[int, int] = {}
      for i, contact in enumerate(data.contact):
        models.mujoco.mj_contactForce(model, data, i, force)
        weight = np.array([1.0, np.linalg.norm(force[:3])])
        everything += weight
        if _collide(ours, *contact.geom):
          kept += weight
          condims[contact.dim] = condims.get(contact.dim, 0) + 1
      most = max([most, *condims.values()])
      pairs = max(pairs, needed_pairs(members, model, data))
  flag = models.mujoco.mjtDisableBit
  inert = int(flag.mjDSBL_CONSTRAINT | flag.mjDSBL_CONTACT)
  if model.opt.disableflags & inert or not everything[0]:
    share = np.zeros(2)  # No contact is active.
  else:
    share = 1 - kept / np.maximum(everything, 1e-9)
  return {
    'dropped': float(share[0]),
    'dropped_force': float(share[1]),
    'most': int(most),
    'slots': _numeric(ours, 'max_contact_points'),
    'pairs': pairs,
    'kept_pairs': _numeric(ours, 'max_geom_pairs'),
  }


def groups(model: Any) -> dict[tuple[Any, ...], np.ndarray]:
  """The groups of geom pairs of which our model computes the nearest only.

  Args:
    model: ours.

  Returns:
    By names of types and condim, the pairs' geoms, `(pairs, 2)`; empty where
    the model keeps all pairs.
  """
  most = _numeric(model, 'max_geom_pairs')
  result = {}
  enum = models.mujoco.mjtGeom
  round_ = {int(enum.mjGEOM_SPHERE), int(enum.mjGEOM_CAPSULE)}
  for key, pairs in collision_driver._geom_groups(model).items():
    # All pairs of spheres and capsules, and those with planes, are computed.
    every = enum.mjGEOM_PLANE in key.types or set(map(int, key.types)) <= round_
    if most is not None and not every and len(pairs) > most:
      names = [models.mujoco.mjtGeom(int(x)).name for x in key.types]
      result[*names, int(key.condim)] = np.array(pairs)[:, :2]
  return result


def needed_pairs(
  members: dict[tuple[Any, ...], np.ndarray], model: Any, data: Any
) -> int:
  """How many pairs must be kept so that all that touch are among them.

  MJX keeps those of a group whose bounding spheres are nearest.

  Args:
    members: the `groups`.
    model: stock's, in C.
    data: its state, with contacts.

  Returns:
    The largest number over the groups.
  """
  touching = np.zeros((model.ngeom, model.ngeom), bool)
  first, second = data.contact.geom.T
  touching[first, second] = touching[second, first] = True
  needed = 0
  for pairs in members.values():
    x, y = pairs.T
    apart = np.linalg.norm(data.geom_xpos[x] - data.geom_xpos[y], axis=1)
    apart -= model.geom_rbound[x] + model.geom_rbound[y]
    farthest = apart[touching[x, y]].max(initial=-np.inf)
    needed = max(needed, int((apart <= farthest).sum()))
  return needed


def _collide(model: Any, a: int, b: int) -> bool:
  """Whether the collision bits of two geoms match."""
  types, affinities = model.geom_contype, model.geom_conaffinity
  return bool((types[a] & affinities[b]) | (types[b] & affinities[a]))


def _numeric(model: Any, name: str) -> int | None:
  """A number among the model's custom fields; None if it is not there."""
  names = [model.numeric(i).name for i in range(model.nnumeric)]
  return int(model.numeric(name).data[0]) if name in names else None
