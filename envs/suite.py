"""What all tasks of the suite share: a stock task becomes a brax environment.

A domain's module subclasses `SuiteEnv` and gives its initial distribution,
observation and reward, in the order of the stock file.
"""

import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jp
import numpy as np

from envs import base, runtime
from envs import physics as physics_lib

_SUITE = 'dm_control.suite'

Params = dict[str, jax.Array]
"""What stock draws anew in every episode besides the physics state (a target's
position, say), by name. It lives in `State.info`."""


def import_stock(name: str) -> ModuleType:
  """Imports a module of dm_control's suite without its noise.

  Args:
    name: below `dm_control.suite`; '' for the package itself.

  Returns:
    The module.
  """
  with runtime.quiet():
    return importlib.import_module('.'.join(filter(None, (_SUITE, name))))


@functools.cache
def _compiled(
  domain: str,
) -> tuple[physics_lib.MjModel, physics_lib.Model, physics_lib.Data]:
  """The domain's model, its MJX model and MJX data: shared by its tasks."""
  xml, assets = import_stock(domain).get_model_and_assets()
  settings = physics_lib.SETTINGS.get(domain, physics_lib.Settings())
  model = physics_lib.compile_model(xml, assets, settings)
  with jax.ensure_compile_time_eval():
    return model, *physics_lib.put_model(model)


class SuiteEnv(base.Env):
  """A task of the DeepMind Control Suite.

  Subclasses define `initial`, `observe` and `reward`, and those that
  randomise the model also `default_params`, `model_at`, `read_params` and
  `write_params`.

  Attributes:
    mj_model: the C model with our edits, for names and constants.
    model: the MJX model.
    control_timestep: seconds between two actions.
    substeps: physics steps between two actions.
    from_solve: names of stock observations that are read from the last solve,
      such as touch; they are as exact as the solver is.
  """

  from_solve: tuple[str, ...] = ()

  def __init__(self, domain: str, task: str):
    """Builds the mirror of `suite.load(domain, task)`.

    Args:
      domain: stock's name, which is also that of the stock module.
      task: stock's name.
    """
    self._domain, self._task = domain, task
    self.name = f'{domain}-{task}'
    stock = self.stock_env(seed=0)
    self.control_timestep: float = stock.control_timestep()
    self.substeps = round(self.control_timestep / stock.physics.timestep())
    # Stock ends an episode when the count of steps reaches this limit.
    self.episode_length = int(np.ceil(stock._step_limit - 1e-9))
    spec = stock.action_spec()
    self._low = np.asarray(spec.minimum, np.float32)
    self._high = np.asarray(spec.maximum, np.float32)
    self.mj_model, self.model, self._data = _compiled(domain)
    shapes = [x.shape for x in stock.observation_spec().values()]
    self._observation_size = sum(int(np.prod(shape)) for shape in shapes)

  def stock_env(self, seed: int) -> Any:
    """See base class."""
    suite = import_stock('')
    kwargs = {'random': seed}
    with runtime.quiet():
      return suite.load(self._domain, self._task, task_kwargs=kwargs)

  @property
  def observation_size(self) -> int:
    """Length of the flat observation."""
    return self._observation_size

  @property
  def action_size(self) -> int:
    """Number of actuators."""
    return self._low.size

  @property
  def action_range(self) -> tuple[np.ndarray, np.ndarray]:
    """See base class."""
    return self._low, self._high

  # What a domain defines.

  def initial(self, rng: jax.Array) -> tuple[jax.Array, jax.Array, Params]:
    """Draws from stock's initial distribution.

    Args:
      rng: a key.

    Returns:
      `qpos` `(nq,)`, `qvel` `(nv,)`, and the episode's parameters.
    """
    raise NotImplementedError

  def observe(self, data: physics_lib.Data) -> dict[str, jax.Array]:
    """Stock's `get_observation`: arrays by stock name, in stock order."""
    raise NotImplementedError

  def reward(self, data: physics_lib.Data) -> jax.Array:
    """Stock's `get_reward`: a scalar."""
    raise NotImplementedError

  # What a domain that randomises its model defines besides.

  def default_params(self) -> Params:
    """The episode's parameters as the stock model file has them."""
    return {}

  def model_at(self, params: Mapping[str, Any]) -> physics_lib.Model:
    """The MJX model of an episode with these parameters."""
    del params
    return self.model

  def read_params(self, physics: Any) -> dict[str, np.ndarray]:
    """The parameters of a stock `Physics`' current episode."""
    del physics
    return {}

  def write_params(self, physics: Any, params: Mapping[str, Any]) -> None:
    """Sets those parameters of a stock `Physics`' episode that are given."""
    del physics, params

  # The environment.

  def reset(self, rng: jax.Array) -> base.State:
    """Draws a fresh initial state.

    Args:
      rng: a key.

    Returns:
      The state. Its reward is stock's at that state, which belongs to no step.
    """
    qpos, qvel, params = self.initial(rng)
    return self.state_from(qpos, qvel, params=params)

  def state_from(
    self,
    qpos: jax.Array,
    qvel: jax.Array,
    act: jax.Array | None = None,
    params: Params | None = None,
  ) -> base.State:
    """The state that stock has after setting these values in a reset.

    Args:
      qpos: generalised positions, `(nq,)`.
      qvel: generalised velocities, `(nv,)`.
      act: actuator activations, `(na,)`; None for zeros.
      params: what the episode draws besides; None for the model file's.

    Returns:
      The state, with everything computed at these values without actuation.
    """
    params = self.default_params() if params is None else params
    dtype = self._data.qpos.dtype
    data = self._data.replace(
      qpos=jp.asarray(qpos, dtype), qvel=jp.asarray(qvel, dtype)
    )
    if act is not None:
      data = data.replace(act=jp.asarray(act, dtype))
    data = physics_lib.forward(self.model_at(params), data)
    info = {k: jp.asarray(v, jp.float32) for k, v in params.items()}
    blank: Any = None  # To be filled.
    return self._fill(
      base.State(
        pipeline_state=data, obs=blank, reward=blank, done=blank, info=info
      )
    )

  def step(  # pyright: ignore[reportIncompatibleMethodOverride]
    self, state: base.State, action: jax.Array
  ) -> base.State:
    """Advances by one control step.

    Args:
      state: the current state.
      action: `(action_size,)`, clipped to [-1, 1].

    Returns:
      The next state, of the same structure and types.
    """
    center, half = (self._low + self._high) / 2, (self._high - self._low) / 2
    ctrl = center + half * jp.clip(action, -1, 1)
    data = physics_lib.step(
      self.model_at(state.info), state.pipeline_state, ctrl, self.substeps
    )
    return self._fill(state.replace(pipeline_state=data))  # pyright: ignore

  @functools.partial(jax.jit, static_argnums=0)
  def _fill(self, state: base.State) -> base.State:
    """Computes what the state's physics imply."""
    data = state.pipeline_state
    with jax.default_matmul_precision('highest'):
      obs = [jp.ravel(x) for x in self.observe(data).values()]
      reward = self.reward(data)
    f32 = functools.partial(jax.lax.convert_element_type, new_dtype=jp.float32)
    return state.replace(  # pyright: ignore
      obs=f32(jp.concatenate(obs)),
      reward=f32(reward),
      done=jp.zeros((), jp.float32),
    )

  # Helpers for domains.

  def _random_joints(self, rng: jax.Array) -> jax.Array:
    """Draws limited joints in their range and free hinges in a full turn.

    Source: `randomize_limited_and_rotational_joints` of the suite.

    Args:
      rng: a key.

    Returns:
      `qpos` `(nq,)`; slides without limits stay at `qpos0`.

    Raises:
      NotImplementedError: the model has ball or free joints.
    """
    m, hinge = self.mj_model, physics_lib.mujoco.mjtJoint.mjJNT_HINGE
    if not np.isin(
      m.jnt_type, (hinge, physics_lib.mujoco.mjtJoint.mjJNT_SLIDE)
    ).all():
      raise NotImplementedError('Random ball and free joints.')
    limited = m.jnt_limited == 1
    turns = ~limited & (m.jnt_type == hinge)
    low = np.where(limited, m.jnt_range[:, 0], np.where(turns, -np.pi, m.qpos0))
    high = np.where(limited, m.jnt_range[:, 1], np.where(turns, np.pi, m.qpos0))
    unit = jax.random.uniform(rng, (m.nq,))
    return jp.asarray(low, jp.float32) + unit * jp.asarray(
      high - low, jp.float32
    )

  def _sensor(self, data: physics_lib.Data, name: str) -> jax.Array:
    """The values of a named sensor, `(dim,)`."""
    sensor = self.mj_model.sensor(name)
    start, size = int(sensor.adr[0]), int(sensor.dim[0])
    return data.sensordata[start : start + size]
