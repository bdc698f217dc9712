"""Environments from brax, Playground and users, behind our interface.

`envs.load` takes them by a name with a colon:

    brax:ant               brax.envs, with the backend 'mjx'
    playground:CheetahRun  mujoco_playground, its own physics in JAX
    module:function        what `function()` of an importable module returns

What they have in common is brax's interface: `reset(key)` and
`step(state, action)` of one environment, whose states have `obs`, `reward`,
`done`. Any of them may terminate; none has a stock environment.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.envs import base, prng, runtime

EPISODE_LENGTH = 1000
"""Time limit of an episode, in env steps, if the environment defines none."""


class Adapted(base.Env):
  """An environment with brax's interface as one of ours.

  The wrapped environment's whole state is kept in `pipeline_state`, as a list
  of arrays of fixed types: the state of a compiled loop must not change its
  types, and some environments return Python numbers in theirs. Actions are
  assumed to be in [-1, 1], as they are in brax and Playground, and `done` to be
  a true termination rather than a time limit.
  """

  terminates = True

  def __init__(self, env: Any, name: str, episode_length: int):
    """Wraps the environment; only shapes are computed.

    Args:
      env: with `reset`, `step`, `action_size`.
      name: of the task.
      episode_length: time limit in env steps.

    Raises:
      ValueError: its observations are not vectors.
    """
    self._env = env
    self.name = name
    self.episode_length = episode_length
    # Not env.observation_size, for which brax runs an uncompiled reset.
    self._treedef: Any = None
    obs, self._types = jax.eval_shape(
      self._flat_reset, jax.eval_shape(prng.key, 0)
    )
    if not hasattr(obs, 'shape') or len(obs.shape) != 1:
      shapes = jax.tree.map(lambda x: x.shape, obs)
      raise ValueError(
        f'{name} observes {shapes}; only vectors are supported: wrap it in a '
        'function of yours, --task=module:function'
      )
    self._observation_size = obs.shape[0]

  def _flat_reset(self, key: jax.Array) -> tuple[Any, list[jax.Array]]:
    with prng.as_default():
      state = self._env.reset(key)
    leaves, self._treedef = jax.tree.flatten(state)
    return state.obs, [jnp.asarray(x) for x in leaves]

  @property
  def observation_size(self) -> int:
    """Length of an observation."""
    return self._observation_size

  @property
  def action_size(self) -> int:
    """Length of an action."""
    return int(self._env.action_size)

  @property
  def unwrapped(self) -> Any:
    """The other environment."""
    return self._env

  @property
  def mj_model(self) -> Any | None:
    """The C model, if the environment has one where brax or Playground do."""
    owner = getattr(self._env, 'sys', self._env)
    return getattr(owner, 'mj_model', None)

  @property
  def control_timestep(self) -> float:
    """Seconds of an env step; only for environments with a `mj_model`."""
    return float(self._env.dt)

  def physics_states(self, states: base.State) -> list[np.ndarray]:
    """MuJoCo's state vector; only for environments with a `mj_model`.

    Args:
      states: a batch of this environment's.

    Returns:
      qpos, qvel and act in one vector, for each of the batch.
    """
    other = jax.tree.unflatten(
      self._treedef,
      states.pipeline_state,  # pyright: ignore
    )
    data = getattr(other, 'data', None) or other.pipeline_state
    parts = [np.asarray(x) for x in (data.qpos, data.qvel, data.act)]
    return list(np.concatenate(parts, axis=-1).astype(np.float64))

  @property
  def action_range(self) -> tuple[np.ndarray, np.ndarray]:
    """-1 and 1."""
    return -np.ones(self.action_size), np.ones(self.action_size)

  def reset(self, rng: jax.Array) -> base.State:
    """A fresh initial state.

    Args:
      rng: a key.
    """
    with prng.as_default():
      return self._state(self._env.reset(rng))

  def step(self, state: Any, action: jax.Array) -> base.State:
    """One env step, without a reset.

    Args:
      state: of this environment.
      action: `(action_size,)` in [-1, 1].
    """
    other = jax.tree.unflatten(self._treedef, state.pipeline_state)
    with prng.as_default():
      return self._state(self._env.step(other, action))

  def _state(self, other: Any) -> base.State:
    return base.State(
      pipeline_state=[  # pyright: ignore
        jnp.asarray(x, like.dtype)
        for x, like in zip(jax.tree.leaves(other), self._types, strict=True)
      ],
      obs=jnp.float32(other.obs),
      reward=jnp.float32(other.reward),
      done=jnp.float32(other.done),
    )


def load(name: str) -> base.Env:
  """Builds an environment from a name with a colon.

  Args:
    name: see the module.

  Returns:
    A new environment.

  Raises:
    ValueError: there is no such environment, or its package is missing; the
      message says what to do.
  """
  source, _, rest = name.partition(':')
  build = _SOURCES.get(source)
  env, length = build(rest) if build else _imported(source, rest)
  if isinstance(env, base.Env):
    return env
  return Adapted(env, name, length)


def _brax(name: str) -> tuple[Any, int]:
  with runtime.quiet():
    from brax import envs as brax_envs
  _choose('brax', name, brax_envs._envs)
  return brax_envs.get_environment(name, backend='mjx'), EPISODE_LENGTH


def _playground(name: str) -> tuple[Any, int]:
  try:
    with runtime.quiet():
      from mujoco_playground import registry  # pyright: ignore
  except ImportError as error:
    raise ValueError(
      f'playground:{name} needs the package playground ({error}); '
      'pip install playground'
    ) from None
  _choose('playground', name, registry.ALL_ENVS)
  config = registry.get_default_config(name)
  overrides: Any = {'impl': 'jax'} if 'impl' in config else {}
  env = registry.load(name, config=config, config_overrides=overrides)
  length: Any = config.episode_length
  return env, int(length)


def _imported(module: str, function: str) -> tuple[Any, int]:
  """The environment that a user's function returns, and its episode length."""
  try:
    make: Callable[[], Any] = functools.reduce(
      getattr, function.split('.'), importlib.import_module(module)
    )
  except (ImportError, AttributeError, ValueError) as error:
    raise ValueError(
      f'No task {module}:{function}: {error}. It is brax:<name>, '
      'playground:<name>, or module:function of an importable module.'
    ) from None
  env = make()
  for method in ('reset', 'step', 'action_size'):
    if not hasattr(env, method):
      raise ValueError(
        f'{module}:{function} must return an environment as brax has them, '
        f'but the {type(env).__name__} has no {method!r}'
      )
  return env, int(getattr(env, 'episode_length', EPISODE_LENGTH))


def _choose(source: str, name: str, names: Any) -> None:
  if name not in names:
    raise ValueError(
      f'No task {source}:{name}. There are: {", ".join(sorted(names))}'
    )


_SOURCES = {'brax': _brax, 'playground': _playground}
