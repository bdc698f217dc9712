"""Stock dm_control models, edited and put into MJX.

`compile_model` takes the MJCF that the installed dm_control would load and
applies this file's edits, each of which has a reason and a measured effect.
`put_model` makes the model and the data that `physics` steps.
"""

import dataclasses
import importlib
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import Any

import jax

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import corrections, noslip

with runtime.quiet():
  from mujoco import mjx

# Type checkers see neither the names that MuJoCo takes from C nor the fields of
# its classes.
mujoco: Any = importlib.import_module('mujoco')
MjModel = Any
"""A `mujoco.MjModel`."""
Model = Any
"""An `mjx.Model`."""
Data = Any
"""An `mjx.Data`."""

SOLVER_TOLERANCE = 1e-6
"""Least solver tolerance (stock: 1e-8). Below float32's epsilon the solver
never sees convergence and spends every iteration it is allowed."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """Edits of one domain's model beyond those that all models get.

  Attributes:
    iterations: largest number of solver iterations; None keeps stock's 100.
    tolerance: least solver tolerance.
    max_contact_points: slots for contacts of one condim. MJX computes all
      candidate contacts and keeps the deepest; exact while the active ones fit.
    warmstart: whether the solver starts from its last solution, as stock does.
      In float32 a start too near the solution is not improved upon: the cost
      of a better one differs by less than its rounding.
    max_geom_pairs: pairs of two types of geoms for which contacts are computed,
      the nearest ones by bounding spheres.
    collide: which geoms may collide: 'stock' for those that do in stock,
      'not itself' for all but the robot's parts with each other, 'no cylinders'
      for all but these, or 'none'.
    unread_sensors: names, as patterns of `fnmatch`, of the sensors that no task
      of the domain reads. The model is without them: what they measure would be
      computed in each physics step.
  """

  iterations: int | None = None
  tolerance: float = SOLVER_TOLERANCE
  max_contact_points: int | None = None
  warmstart: bool = True
  max_geom_pairs: int | None = None
  collide: str = 'stock'
  unread_sensors: tuple[str, ...] = ()


# Measured with `envs.parity`: iteration caps and contact slots leave the errors
# against C as they were, to the printed digit. A cold start lowers them: 99 %
# of v25 from 3e-4 to 8e-6 in cartpole, from 5e-4 to 3e-6 in reacher and from
# 2e-3 to 2e-4 in finger; not in quadruped, walker and cheetah.
_LIMITS_ONLY = Settings(iterations=10, warmstart=False)
# Stock disables constraints or contacts in the domains that have no geoms
# collide here, so that nothing changes but MJX's work.
_NO_CONTACTS = Settings(collide='none')
_QUADRUPED = Settings(
  iterations=10,
  max_contact_points=8,
  # No two parts of the robot touched in 60,000 control steps of C.
  collide='not itself',
  unread_sensors=('center_of_mass',),
)
SETTINGS = {
  'acrobot': _NO_CONTACTS,
  'ball_in_cup': Settings(iterations=10),
  'cartpole': _LIMITS_ONLY,
  'dog': Settings(
    iterations=20,
    max_contact_points=40,
    max_geom_pairs=160,
    unread_sensors=('torso_angmom',),
  ),
  # The hinges' cylinders lie within other geoms: they touched nothing in 60,000
  # control steps of C, which had 4,766 contacts of others.
  'finger': Settings(
    iterations=8,
    warmstart=False,
    collide='no cylinders',
    unread_sensors=('touch*_pos',),
  ),
  'fish': Settings(collide='none', unread_sensors=('velocimeter', 'gyro')),
  'cheetah': Settings(iterations=8, max_contact_points=8),
  'hopper': Settings(iterations=10, max_contact_points=8),
  'humanoid': Settings(
    iterations=10,
    max_contact_points=16,
    unread_sensors=(
      *('torso_accel', 'torso_vel', 'torso_gyro'),
      *('*_force', '*_torque', '*_touch'),
    ),
  ),
  # Of 300 states, the velocities of 9 were more than 1e-3 off after 25 physics
  # steps at 1e-6, of 5 at stock's tolerance, which takes up to 20 iterations.
  'humanoid_CMU': Settings(
    iterations=20,
    tolerance=1e-8,
    max_contact_points=32,
    unread_sensors=('sensor_*',),
  ),
  'lqr': _NO_CONTACTS,
  'manipulator': Settings(iterations=20, max_contact_points=24),
  'quadruped': _QUADRUPED,
  'quadruped-escape': dataclasses.replace(_QUADRUPED, max_contact_points=24),
  'reacher': _LIMITS_ONLY,
  'stacker': Settings(iterations=20, max_contact_points=48),
  'swimmer': Settings(collide='none', unread_sensors=('*_pos', 'head_?axis')),
  'walker': Settings(iterations=12),
}
"""Edits by domain, or by task where its model is another."""


def settings_of(domain: str, task: str) -> Settings:
  """The edits of a task's model: its own, its domain's or the defaults."""
  own = SETTINGS.get(f'{domain}-{task}')
  return own or SETTINGS.get(domain, Settings())


_FREE = ('world', 'ball')
"""Bodies that do not belong to a robot."""


def compile_model(
  xml: str | bytes, assets: Mapping[str, Any], settings: Settings
) -> MjModel:
  """Compiles a stock model with this package's edits.

  Args:
    xml: the MJCF of the stock domain module.
    assets: the files it includes, by path.
    settings: the domain's edits.

  Returns:
    The edited model, for C MuJoCo or `mjx.put_model`.
  """
  text = xml.decode() if isinstance(xml, bytes) else xml
  # The suite includes './common/visual.xml'; the parser asks without './'.
  include = {name.removeprefix('./'): data for name, data in assets.items()}
  files = {n: d for n, d in assets.items() if not n.endswith('.xml')}
  spec = mujoco.MjSpec.from_string(text, include=include, assets=files)
  option = spec.option
  # No task reads the energy, and MJX cannot compute it.
  option.enableflags &= ~int(mujoco.mjtEnableBit.mjENBL_ENERGY)
  option.tolerance = max(option.tolerance, settings.tolerance)
  if settings.iterations is not None:
    option.iterations = settings.iterations
  if not settings.warmstart:
    option.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_WARMSTART)
  if settings.max_contact_points is not None:
    spec.add_numeric(
      name='max_contact_points', data=[settings.max_contact_points], size=1
    )
  if settings.max_geom_pairs is not None:
    spec.add_numeric(
      name='max_geom_pairs', data=[settings.max_geom_pairs], size=1
    )
  noslip.keep(spec)
  for geom in spec.geoms:
    _restrict(geom, settings.collide)
  for sensor in list(spec.sensors):
    if any(fnmatch(sensor.name, name) for name in settings.unread_sensors):
      spec.delete(sensor)
  with runtime.quiet():
    return spec.compile()


def _restrict(geom: Any, collide: str) -> None:
  """Changes which geoms a geom may collide with; see `Settings.collide`."""
  types = mujoco.mjtGeom
  match collide:
    case 'none':
      geom.contype = geom.conaffinity = 0
    case 'no cylinders' if geom.type == types.mjGEOM_CYLINDER:
      geom.contype = geom.conaffinity = 0
    case 'not itself' if geom.contype or geom.conaffinity:
      # Two geoms collide if the type of one matches the affinity of the other.
      free = geom.parent.name in _FREE
      geom.contype, geom.conaffinity = (1, 3) if free else (2, 1)


def put_model(model: MjModel) -> tuple[Model, Data]:
  """Puts a model on the device, and this package's corrections into MJX.

  Args:
    model: a compiled model; its option says then that matrices are dense.

  Returns:
    The MJX model, and its data as stock has them after `physics.reset()`:
    everything computed at `qpos0` without actuation.
  """
  corrections.install()
  # By default MJX decides by the backend that the process has.
  model.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
  stock = mujoco.MjData(model)
  flags = model.opt.disableflags
  model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_ACTUATION)
  mujoco.mj_forward(model, stock)
  model.opt.disableflags = flags
  data = mjx.put_data(model, stock, impl='jax')
  return mjx.put_model(model, impl='jax'), _strong(data)


def _strong(tree: Any) -> Any:
  """Drops weak types: they would change the type of a loop's carry."""
  return jax.tree.map(lambda x: jax.lax.convert_element_type(x, x.dtype), tree)
