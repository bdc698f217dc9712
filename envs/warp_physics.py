"""Stock's steps by MuJoCo Warp, MJX's second backend.

MuJoCo Warp has all of C's colliders and its noslip solver, so every model runs
unedited. It is made for NVIDIA GPUs and runs, slowly, on CPU.

A control step is one call out of JAX's program. It copies the state in, lets
Warp take the physics steps in buffers of its own, and copies out what tasks
read: contacts and constraints, which Warp keeps for all environments together,
never enter JAX. All axes that `jax.vmap` adds, such as seeds and environments,
are flattened into one batch.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jp
import numpy as np
from flax import struct

from envs import physics, runtime

_CONTACTS = 64
"""Contacts of an environment, on average, for which there is room."""
_ROWS_PER_CONTACT = 4
"""Constraints of a contact with a pyramidal cone in three dimensions."""


@struct.dataclass
class Data:
  """The fields of an `mjx.Data` that tasks read and steps need."""

  qpos: jax.Array
  qvel: jax.Array
  act: jax.Array
  ctrl: jax.Array
  qacc_warmstart: jax.Array
  xpos: jax.Array
  xquat: jax.Array
  xmat: jax.Array
  xipos: jax.Array
  subtree_com: jax.Array
  cvel: jax.Array
  geom_xpos: jax.Array
  geom_xmat: jax.Array
  site_xpos: jax.Array
  site_xmat: jax.Array
  sensordata: jax.Array


_STATE = ('qpos', 'qvel', 'act', 'ctrl', 'qacc_warmstart')
# Warp never computes the poses of geoms that are fixed to the world.
_INPUTS = (*_STATE, 'geom_xpos', 'geom_xmat')
# Physics changes no controls.
_OUTPUTS = tuple(name for name in Data.__dataclass_fields__ if name != 'ctrl')
_Arrays = dict[str, jax.Array]


class WarpPhysics:
  """Steps one model; stands in for the functions of `envs.physics`."""

  def __init__(self, mj_model: physics.MjModel, model: physics.Model):
    """Checks that Warp can run.

    Args:
      mj_model: the model to simulate.
      model: an MJX model of the same task, from which the models of episodes
        differ by some arrays.

    Raises:
      ValueError: Warp is not installed, or JAX computes in float64 or on a
        device that Warp does not know.
    """
    self._wp, self._mjw = _import_warp()
    if jp.zeros(()).dtype != jp.float32:
      raise ValueError("physics='warp' is float32 only: unset jax_enable_x64")
    if jax.default_backend() not in ('cpu', 'gpu'):
      raise ValueError(
        "physics='warp' needs an NVIDIA GPU or a CPU; take physics='mjx'"
      )
    self._mj_model, self._model = mj_model, model
    # Warp's buffers and callbacks live as long as the programs that call them.
    self._batched = functools.cache(self._batched)
    self._callback = functools.cache(self._callback)

  def forward(self, model: physics.Model, data: physics.Data) -> Data:
    """What stock computes after a reset; see `physics.forward`.

    Args:
      model: the episode's model.
      data: an `mjx.Data`, of which only `qpos`, `qvel` and `act` count.

    Returns:
      Data in which everything belongs to that state.
    """
    return self._call(model, physics.kinematics(model, data), substeps=0)

  def step(
    self, model: physics.Model, data: Data, ctrl: jax.Array, substeps: int
  ) -> Data:
    """Stock's control step; see `physics.step`.

    Args:
      model: the episode's model.
      data: as `forward` and `step` leave them.
      ctrl: `(nu,)`, stock's units.
      substeps: physics steps in the control step.

    Returns:
      Data after the control step.
    """
    ctrl = ctrl.astype(data.ctrl.dtype)
    data = data.replace(ctrl=ctrl)  # pyright: ignore
    return self._call(model, data, substeps)

  def _call(self, model: physics.Model, data: Any, substeps: int) -> Data:
    changed = tuple(
      field
      for field in type(model).__dataclass_fields__
      if field not in ('opt', 'stat', '_impl')
      and getattr(model, field) is not getattr(self._model, field)
    )
    inputs = {name: getattr(data, name)[None] for name in _INPUTS}
    inputs |= {name: jp.asarray(getattr(model, name))[None] for name in changed}
    outputs = self._batched(changed, substeps)(inputs)
    return Data(ctrl=data.ctrl, **{k: x[0] for k, x in outputs.items()})

  def _batched(
    self, changed: tuple[str, ...], substeps: int
  ) -> Callable[[_Arrays], _Arrays]:
    """The step of a batch, for which `vmap` only makes the batch larger."""

    @jax.custom_batching.custom_vmap
    def call(inputs: _Arrays) -> _Arrays:
      size = len(inputs['qpos'])
      callback, shapes = self._callback(size, changed, substeps)
      # XLA passes no empty arrays on.
      outputs = {n: jp.zeros(shape) for n, shape in shapes.items()}
      filled = [name for name, shape in shapes.items() if np.prod(shape)]
      # JAX sorts the keys of dicts.
      ordered = (inputs[name] for name in (*_INPUTS, *changed))
      results = callback(*(x for x in ordered if x.size))
      return outputs | dict(zip(filled, results, strict=True))

    @call.def_vmap
    def _(axis_size: int, batched: Any, inputs: _Arrays):
      def flatten(x: jax.Array, has_axis: bool) -> jax.Array:
        if not has_axis:
          x = jp.broadcast_to(x, (axis_size, *x.shape))
        return x.reshape(axis_size * x.shape[1], *x.shape[2:])

      outputs = call(jax.tree.map(flatten, inputs, batched[0]))
      outputs = jax.tree.map(
        lambda x: x.reshape(axis_size, len(x) // axis_size, *x.shape[1:]),
        outputs,
      )
      return outputs, dict.fromkeys(outputs, True)

    return call

  def _callback(
    self, size: int, changed: tuple[str, ...], substeps: int
  ) -> tuple[Callable[..., Any], dict[str, tuple[int, ...]]]:
    """Warp's side: a function of non-empty inputs, and its outputs' shapes."""
    wp, mjw, m = self._wp, self._mjw, self._mj_model
    limits = m.jnt_limited.sum() + m.tendon_limited.sum()
    friction = (m.dof_frictionloss > 0).sum()
    rows = int(limits + friction + 6 * m.neq + _CONTACTS * _ROWS_PER_CONTACT)
    with jax.ensure_compile_time_eval():
      (device,) = map(wp.device_from_jax, jp.zeros(()).devices())
    with wp.ScopedDevice(device), runtime.quiet():
      model = mjw.put_model(m, batch_sizes=dict.fromkeys(changed, size))
      data = mjw.make_data(m, nworld=size, nconmax=_CONTACTS, njmax=rows)
    if not substeps:
      model.opt.disableflags |= int(
        physics.mujoco.mjtDisableBit.mjDSBL_ACTUATION
      )
    targets = [getattr(data, name) for name in _INPUTS]
    targets += [getattr(model, name) for name in changed]
    targets = [x for x in targets if x.size]
    sources = {name: getattr(data, name) for name in _OUTPUTS}
    shapes = {n: _shape(x) for n, x in sources.items()}
    sources = {name: x for name, x in sources.items() if x.size}

    def run(*arrays: Any) -> None:
      remaining = iter(arrays)
      for target in targets:
        wp.copy(target, next(remaining))
      if not substeps:
        mjw.forward(model, data)
      for _ in range(substeps):
        mjw.step(model, data)
      if substeps:
        # What is observed of the new state; the rest waits for the next step.
        mjw.fwd_kinematics(model, data)
        mjw.transmission(model, data)
        mjw.sensor_pos(model, data)
        mjw.fwd_velocity(model, data)
        mjw.sensor_vel(model, data)
      for source in sources.values():
        wp.copy(next(remaining), source)

    arguments = [*targets, *sources.values()]
    parameters = [
      inspect.Parameter(
        f'x{i}',
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        annotation=wp.array(dtype=x.dtype, ndim=x.ndim),
      )
      for i, x in enumerate(arguments)
    ]
    run.__signature__ = inspect.Signature(parameters)  # pyright: ignore
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    modes = wp.JaxCallableGraphMode
    callback = wp.jax_callable(
      run,
      num_outputs=len(sources),
      output_dims={
        p.name: x.shape
        for p, x in zip(
          parameters[len(targets) :], sources.values(), strict=True
        )
      },
      graph_mode=modes.WARP if device.is_cuda else modes.NONE,
    )
    return callback, shapes


def _shape(array: Any) -> tuple[int, ...]:
  """A Warp array's shape as JAX sees it, vectors' entries included."""
  return (*array.shape, *getattr(array.dtype, '_shape_', ()))


def _import_warp() -> tuple[Any, Any]:
  """Warp and MuJoCo Warp.

  Returns:
    The modules.

  Raises:
    ValueError: Warp is not installed.
  """
  try:
    warp: Any = importlib.import_module('warp')
  except ImportError:
    raise ValueError(
      "physics='warp' needs NVIDIA Warp: pip install 'mjx-crossq[warp]', or "
      "take physics='mjx'"
    ) from None
  warp.config.log_level = warp.LOG_WARNING
  importlib.import_module('envs.warp_collision')
  with runtime.quiet():
    return warp, importlib.import_module('mujoco.mjx.third_party.mujoco_warp')
