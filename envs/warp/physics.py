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

from mjx_crossq.envs import runtime
from mjx_crossq.envs.mjx import models, physics, shortfalls


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
  overflow: jax.Array


_STATE = ('qpos', 'qvel', 'act', 'ctrl', 'qacc_warmstart')
# Warp never computes the poses of geoms that are fixed to the world.
_INPUTS = (*_STATE, 'geom_xpos', 'geom_xmat')
# Physics changes no controls.
_OUTPUTS = tuple(name for name in Data.__dataclass_fields__ if name != 'ctrl')
_FORWARD, _COLLIDE = 0, -1
"""Values of `steps` that ask for something else than physics steps."""
_Arrays = dict[str, jax.Array]


class WarpPhysics:
  """Steps one model; has the functions of `mjx_crossq.envs.mjx.physics`."""

  def __init__(self, mj_model: models.MjModel, model: models.Model):
    """Checks that Warp can run.

    Args:
      mj_model: the model to simulate.
      model: an MJX model of the same task, from which the models of episodes
        differ by some arrays.

    Raises:
      ValueError: Warp is not installed, or JAX computes in float64 or on a
        device that Warp does not know.
    """
    self._warp = _import_warp()
    if jp.zeros(()).dtype != jp.float32:
      raise ValueError("physics='warp' is float32 only: unset jax_enable_x64")
    if jax.default_backend() not in ('cpu', 'gpu'):
      raise ValueError(
        "physics='warp' needs an NVIDIA GPU or a CPU; take physics='mjx'"
      )
    self._mj_model, self._model = mj_model, model
    # Warp's buffers and callbacks live as long as the programs that call them.
    self._program = functools.cache(self._program)
    self._callback = functools.cache(self._callback)

  def forward(self, model: models.Model, data: models.Data) -> Data:
    """What stock computes after a reset; see `physics.forward`.

    Args:
      model: the episode's model.
      data: an `mjx.Data`, of which only `qpos`, `qvel` and `act` count.

    Returns:
      Data in which everything belongs to that state.
    """
    data = physics.poses(model, data)
    return Data(ctrl=data.ctrl, **self._call(model, data, _FORWARD))

  def step(
    self, model: models.Model, data: Data, ctrl: jax.Array, substeps: int
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
    return Data(ctrl=ctrl, **self._call(model, data, substeps))

  def penetrates(self, model: models.Model, data: models.Data) -> jax.Array:
    """Whether any two geoms touch; see `physics.penetrates`."""
    data = physics.poses(model, data)
    return self._call(model, data, _COLLIDE)['contacts'] > 0

  def watch(self, data: Data) -> dict[str, jax.Array]:
    """What the last control step left out; see `physics.watch`.

    Warp says whether something was left out and not how often.

    Args:
      data: as `step` leaves them.

    Returns:
      1 or 0, float32 `()`, by the names of `shortfalls.NAMES`.
    """
    return {
      name: (data.overflow & self._warp.FLAGS[name] != 0).astype(jp.float32)
      for name in shortfalls.NAMES
    }

  def _call(self, model: models.Model, data: Any, steps: int) -> _Arrays:
    changed = tuple(
      field
      for field in type(model).__dataclass_fields__
      if field not in ('opt', 'stat', '_impl')
      and getattr(model, field) is not getattr(self._model, field)
    )
    inputs = {name: getattr(data, name)[None] for name in _INPUTS}
    inputs |= {name: jp.asarray(getattr(model, name))[None] for name in changed}
    outputs = self._program(changed, steps)(inputs)
    return {name: x[0] for name, x in outputs.items()}

  def _program(
    self, changed: tuple[str, ...], steps: int
  ) -> Callable[[_Arrays], _Arrays]:
    """A function of a batch; `vmap` adds its axis to the batch."""

    @jax.custom_batching.custom_vmap
    def call(inputs: _Arrays) -> _Arrays:
      size = len(inputs['qpos'])
      callback, shapes = self._callback(size, changed, steps)
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
    self, size: int, changed: tuple[str, ...], steps: int
  ) -> tuple[Callable[..., Any], dict[str, tuple[int, ...]]]:
    """The function of non-empty inputs that runs Warp, and output shapes."""
    w = self._warp
    with jax.ensure_compile_time_eval():
      (device,) = map(w.wp.device_from_jax, jp.zeros(()).devices())
    with w.wp.ScopedDevice(device), runtime.quiet():
      model, data = w.worlds(self._mj_model, size, changed)
      contacts = w.wp.zeros(size, dtype=int)
    if steps == _FORWARD:
      flag = models.mujoco.mjtDisableBit.mjDSBL_ACTUATION
      model.opt.disableflags |= int(flag)
    targets = [getattr(data, name) for name in _INPUTS]
    targets += [w.batched(model, name, size) for name in changed]
    targets = [x for x in targets if x.size]
    sources = {name: getattr(data, name) for name in _OUTPUTS}
    if steps == _COLLIDE:
      sources = {'contacts': contacts}
    shapes = {name: _shape(x) for name, x in sources.items()}
    filled = [x for x in sources.values() if x.size]

    def run(*arrays: Any) -> None:
      for target, given in zip(targets, arrays, strict=False):
        w.wp.copy(target, given)
      data.overflow.zero_()
      if steps == _COLLIDE:
        w.count_contacts(model, data, contacts)
      elif steps == _FORWARD:
        w.mjw.forward(model, data)
      else:
        w.step(model, data, steps)
      for source, wanted in zip(filled, arrays[len(targets) :], strict=True):
        w.wp.copy(wanted, source)

    arrays = [*targets, *filled]
    annotations = {
      f'x{i}': w.wp.array(dtype=x.dtype, ndim=x.ndim)
      for i, x in enumerate(arrays)
    }
    run.__annotations__ = annotations
    run.__signature__ = inspect.Signature(  # pyright: ignore
      [
        inspect.Parameter(
          name, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation
        )
        for name, annotation in annotations.items()
      ]
    )
    modes = w.wp.JaxCallableGraphMode
    callback = w.wp.jax_callable(
      run,
      num_outputs=len(filled),
      output_dims={
        name: x.shape for name, x in zip(annotations, arrays, strict=True)
      },
      graph_mode=modes.WARP if device.is_cuda else modes.NONE,
    )
    return callback, shapes


def _shape(array: Any) -> tuple[int, ...]:
  """A Warp array's shape as JAX sees it, vectors' entries included."""
  return (*array.shape, *getattr(array.dtype, '_shape_', ()))


def _import_warp() -> Any:
  """Imports our code that is written in Warp.

  Returns:
    The module `mjx_crossq.envs.warp.worlds`.

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
  return importlib.import_module('mjx_crossq.envs.warp.worlds')
