"""What all tasks of the suite share: a stock task becomes a brax environment.

A domain's module subclasses `SuiteEnv` and gives its initial distribution,
observation and reward, in the order of the stock file.
"""

import functools
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import base, runtime
from mjx_crossq.envs import initial_states as resets
from mjx_crossq.envs.initial_states import Initial, Params
from mjx_crossq.envs.mjx import models, shortfalls
from mjx_crossq.envs.mjx import physics as physics_lib

__all__ = ['Initial', 'Params', 'SuiteEnv', 'import_stock']

_SUITE = 'dm_control.suite'

_UNBOUNDED = 1e9
"""An action counts as unbounded if stock's bound is at least this."""


def import_stock(name: str) -> ModuleType:
  """Imports a module of dm_control's suite, without its warnings.

  Args:
    name: the module's name in `dm_control.suite`; '' for the package itself.

  Returns:
    The module.

  Raises:
    ImportError: dm_control is not installed; the message says how it is.
  """
  try:
    with runtime.quiet():
      return importlib.import_module('.'.join(filter(None, (_SUITE, name))))
  except ModuleNotFoundError as error:
    if error.name != 'dm_control':
      raise
    raise ImportError(
      'dm_control is missing, which has the models: pip install dm_control; on '
      'Python 3.13, where its need labmaze cannot be installed and is not '
      'used: pip install --no-deps dm_control'
    ) from None


_Compiled = tuple[models.MjModel, models.Model, models.Data]
_compiled: dict[tuple[str | bytes, models.Settings], _Compiled] = {}


def _compile(
  xml: str | bytes, assets: Mapping[str, Any], settings: models.Settings
) -> _Compiled:
  """C model, MJX model and data; compiled once for all tasks with this MJCF."""
  if (xml, settings) not in _compiled:
    model = models.compile_model(xml, assets, settings)
    with jax.ensure_compile_time_eval():
      _compiled[xml, settings] = model, *models.put_model(model)
  return _compiled[xml, settings]


class SuiteEnv(base.Env):
  """A task of the DeepMind Control Suite.

  Subclasses define `initial`, `observe` and `reward`; those with a model for
  each task `stock_xml`; those that randomise the model also `default_params`,
  `model_at`, `read_params` and `write_params`; those that end by themselves
  `terminates` and `done`.

  Attributes:
    mj_model: the C model that is simulated, for names and constants.
    model: the MJX model; with Warp it is used in resets only.
    physics: the backend's `forward` and `step`.
    control_timestep: seconds between two actions.
    substeps: physics steps between two actions.
    from_solve: names of stock observations that are computed from the last
      constraint solve, such as touch, and so have the solver's accuracy.
    clear_resets: whether no stock episode begins with geoms in contact.
    warp_unfaithful: what `unfaithful` says with Warp.
  """

  from_solve: tuple[str, ...] = ()
  clear_resets: bool = False
  warp_unfaithful: str = ''

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
    if np.isfinite(stock._step_limit):
      self.episode_length = int(np.ceil(stock._step_limit - 1e-9))
    spec = stock.action_spec()
    # Policies of tasks without bounds (lqr) act in [-1, 1].
    self._low, self._high = (
      np.where(np.abs(bound) < _UNBOUNDED, bound, sign).astype(np.float32)
      for bound, sign in ((spec.minimum, -1), (spec.maximum, 1))
    )
    settings = models.settings_of(domain, task)
    compiled = _compile(*self.stock_xml(), settings)
    self.mj_model, self.model, self._data = compiled
    self.physics: Any = physics_lib
    self.watched = shortfalls.NAMES
    shapes = [x.shape for x in stock.observation_spec().values()]
    self._observation_size = sum(int(np.prod(shape)) for shape in shapes)

  @override
  def stock_env(self, seed: int) -> Any:
    suite = import_stock('')
    kwargs = {'random': seed}
    with runtime.quiet():
      return suite.load(self._domain, self._task, task_kwargs=kwargs)

  @override
  def stock_only(self) -> 'SuiteEnv':
    env = object.__new__(type(self))
    env._domain, env._task = self._domain, self._task
    return env

  @property
  def observation_size(self) -> int:
    """Length of the flat observation."""
    return self._observation_size

  @property
  def action_size(self) -> int:
    """Number of actuators."""
    return self._low.size

  @property
  @override
  def action_range(self) -> tuple[np.ndarray, np.ndarray]:
    return self._low, self._high

  @property
  @override
  def backend(self) -> str:
    return 'mjx' if self.physics is physics_lib else 'warp'

  @override
  def set_physics(self, backend: str) -> None:
    if backend == self.backend or backend != 'warp':
      return super().set_physics(backend)
    from mjx_crossq.envs.warp import physics as warp_physics

    unedited = models.Settings()
    self.mj_model = models.compile_model(*self.stock_xml(), unedited)
    self.physics = warp_physics.WarpPhysics(self.mj_model, self.model)
    self.unfaithful = self.warp_unfaithful

  @override
  def watch(self, state: base.State) -> dict[str, jax.Array]:
    return self.physics.watch(state.pipeline_state)

  # Methods that each domain defines.

  def initial(self, rng: jax.Array) -> Initial:
    """Draws from stock's initial distribution.

    Args:
      rng: a key.

    Returns:
      The draw.
    """
    raise NotImplementedError

  def observe(self, data: models.Data) -> dict[str, jax.Array]:
    """Stock's `get_observation`: arrays by stock name, in stock order."""
    raise NotImplementedError

  def reward(self, data: models.Data) -> jax.Array:
    """Stock's `get_reward`: a scalar."""
    raise NotImplementedError

  def done(self, data: models.Data) -> jax.Array:
    """Whether the episode ends by itself: stock's `get_termination`."""
    del data
    return jp.zeros((), jp.float32)

  # For domains whose model depends on the task.

  def stock_xml(self) -> tuple[str | bytes, Mapping[str, Any]]:
    """The MJCF of the stock task, and the files it includes by path."""
    return import_stock(self._domain).get_model_and_assets()

  # For domains that randomise the model in each episode.

  def default_params(self) -> Params:
    """The episode's parameters as the stock model file has them."""
    return {}

  def model_at(self, params: Mapping[str, Any]) -> models.Model:
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
    return self.state_from(*self.initial(rng))

  def state_from(
    self,
    qpos: jax.Array,
    qvel: jax.Array | None = None,
    act: jax.Array | None = None,
    params: Params | None = None,
  ) -> base.State:
    """The state that stock has after setting these values in a reset.

    Args:
      qpos: generalised positions, `(nq,)`.
      qvel: generalised velocities, `(nv,)`; None for zeros.
      act: actuator activations, `(na,)`; None for zeros.
      params: what the episode draws besides; None for the model file's.

    Returns:
      The state, with everything computed at these values without actuation.
    """
    params = self.default_params() if params is None else params
    data = self.place(Initial(qpos, qvel, act))
    data = self.physics.forward(self.model_at(params), data)
    info = {k: jp.asarray(v, jp.float32) for k, v in params.items()}
    blank: Any = None  # Set by `_fill`.
    return self._fill(
      base.State(
        pipeline_state=data, obs=blank, reward=blank, done=blank, info=info
      )
    )

  def place(self, initial: Initial) -> models.Data:
    """Data at an initial state, of which nothing else is computed yet.

    Args:
      initial: the state; its parameters are not looked at.

    Returns:
      Data for `physics.forward`.
    """
    dtype = self._data.qpos.dtype
    values = {'qpos': initial.qpos, 'qvel': initial.qvel, 'act': initial.act}
    return self._data.replace(
      **{k: jp.asarray(v, dtype) for k, v in values.items() if v is not None}
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
    data = self.physics.step(
      self.model_at(state.info), state.pipeline_state, ctrl, self.substeps
    )
    return self._fill(state.replace(pipeline_state=data))  # pyright: ignore

  @functools.partial(jax.jit, static_argnums=0)
  def _fill(self, state: base.State) -> base.State:
    """Computes observation, reward and termination from the physics state."""
    data = state.pipeline_state
    with jax.default_matmul_precision('highest'):
      obs = [jp.ravel(x) for x in self.observe(data).values()]
      reward, done = self.reward(data), self.done(data)
    f32 = functools.partial(jax.lax.convert_element_type, new_dtype=jp.float32)
    return state.replace(  # pyright: ignore
      obs=f32(jp.concatenate(obs)),
      reward=f32(reward),
      done=f32(done),
    )

  # Helpers for domains.

  def _without_contact(
    self,
    rng: jax.Array,
    draw: Callable[[jax.Array, Initial], Initial],
    start: Initial | None = None,
  ) -> Initial:
    """Draws until no geoms touch; see `resets.until`."""

    def touches(initial: Initial) -> jax.Array:
      model = self.model_at(initial.params or {})
      return physics_lib.penetrates(model, self.place(initial))

    return resets.until(touches, rng, draw, start)

  def _random_joints(self, rng: jax.Array) -> jax.Array:
    """A random `qpos`; see `resets.random_joints`."""
    return resets.random_joints(self.mj_model, rng)

  def _qpos_at(self, *joints: str) -> np.ndarray:
    """Addresses in `qpos` of scalar joints."""
    m = self.mj_model
    return np.array([m.joint(name).qposadr[0] for name in joints])

  def _qvel_at(self, *joints: str) -> np.ndarray:
    """Addresses in `qvel` of scalar joints."""
    m = self.mj_model
    return np.array([m.joint(name).dofadr[0] for name in joints])

  def _sensor(self, data: models.Data, *names: str) -> jax.Array:
    """The values of named sensors, one after the other."""
    sensors = [self.mj_model.sensor(name) for name in names]
    return jp.concatenate(
      [
        data.sensordata[int(s.adr[0]) : int(s.adr[0] + s.dim[0])]
        for s in sensors
      ]
    )

  def _sensors(self, data: models.Data, *kinds: Any) -> jax.Array:
    """Readings of all sensors of these types, in the model's order."""
    m = self.mj_model
    wanted = np.isin(m.sensor_type, [int(kind) for kind in kinds])
    names = [m.sensor(i).name for i in np.flatnonzero(wanted)]
    return self._sensor(data, *names)
