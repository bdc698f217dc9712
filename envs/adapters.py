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
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.envs import base, checks, prng, runtime

EPISODE_LENGTH = 1000
"""Time limit of an episode, in env steps, if the environment defines none."""

_PARTS = ('state', 'privileged_state')  # of the actor, and of the critic
_NO_MJX = ('swimmer',)  # of brax's


class Adapted(base.Env):
  """An environment with brax's interface as one of ours.

  The wrapped environment's whole state is kept in `pipeline_state`, as a list
  of arrays of fixed types: the state of a compiled loop must not change its
  types, and some environments return Python numbers in theirs. Actions are
  assumed to be in [-1, 1], as they are in brax and Playground, and `done` to be
  a true termination rather than a time limit.

  An observation is a vector, or a dictionary with `state`, which the actor
  sees, and `privileged_state`, which the critic sees, as Playground has it. The
  two are kept as one vector, in this order.
  """

  terminates = True

  def __init__(self, env: Any, name: str, episode_length: int):
    """Wraps the environment; only shapes are computed.

    Args:
      env: with `reset`, `step`, `action_size`.
      name: of the task.
      episode_length: time limit in env steps.

    Raises:
      ValueError: it is not what training relies on; see `checks.state`.
    """
    self._env = env
    self.name = name
    self.episode_length = checks.positive_integer(
      name, 'episode_length', episode_length
    )
    # Not env.observation_size, for which brax runs an uncompiled reset.
    state = checks.state(name, env)
    self._types, self._treedef = jax.tree.flatten(state)
    paths = jax.tree_util.tree_leaves_with_path(state)
    self._simulated = [_simulated(state, path) for path, _ in paths]
    obs = state.obs
    if isinstance(obs, Mapping) and {*_PARTS[:1]} <= {*obs} <= {*_PARTS}:
      sizes = [checks.vector(name, obs[part]) for part in _PARTS if part in obs]
      self._observation_size = sum(sizes)
      if len(sizes) > 1:
        self.actor_observation = 0, sizes[0]
        self.critic_observation = sizes[0], sum(sizes)
    else:
      self._observation_size = checks.vector(name, obs)

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

  def simulated(self, state: Any) -> list[jax.Array]:
    """Positions, velocities and activations; else all but brax's own fields.

    Args:
      state: of this environment.
    """
    pairs = zip(state.pipeline_state, self._simulated, strict=True)
    return [leaf for leaf, counts in pairs if counts]

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
    obs = other.obs
    if isinstance(obs, Mapping):
      parts = [jnp.float32(obs[part]) for part in _PARTS if part in obs]
      obs = jnp.concatenate(parts)
    return base.State(
      pipeline_state=[  # pyright: ignore
        jnp.asarray(x, like.dtype)
        for x, like in zip(jax.tree.leaves(other), self._types, strict=True)
      ],
      obs=jnp.float32(obs),
      reward=jnp.float32(other.reward),
      done=jnp.float32(other.done),
    )


def _simulated(state: Any, path: Sequence[Any]) -> bool:
  """Whether a leaf of another environment's state belongs to its simulation."""
  first, *rest = [getattr(key, 'name', None) for key in path]
  if first in ('data', 'pipeline_state') and hasattr(
    getattr(state, first), 'qpos'
  ):
    return rest[:1] in (['qpos'], ['qvel'], ['act'])
  return first not in ('obs', 'reward', 'done', 'metrics', 'info')


def load(name: str) -> base.Env:
  """Builds an environment from a name with a colon.

  Args:
    name: see the module.

  Returns:
    A new environment.

  Raises:
    ValueError: there is no such environment, its package is missing, or it is
      not what training relies on; the message says what to do.
  """
  source, _, rest = name.partition(':')
  build = _SOURCES.get(source)
  return adapt(name, build(rest) if build else _imported(source, rest))


def adapt(name: str, env: Any) -> base.Env:
  """An environment with our interface, or with brax's, as one of ours.

  Args:
    name: of the task.
    env: the environment.

  Raises:
    ValueError: it is not what training relies on.
  """
  if isinstance(env, base.Env):
    checks.own(name, env)
    return env
  config = getattr(env, '_config', None)  # Playground's
  length = getattr(config, 'episode_length', EPISODE_LENGTH)
  return Adapted(env, name, getattr(env, 'episode_length', length))


def _brax(name: str) -> Any:
  with runtime.quiet():
    from brax import envs as brax_envs
  _choose('brax', name, [n for n in brax_envs._envs if n not in _NO_MJX])
  with runtime.quiet():
    return brax_envs.get_environment(name, backend='mjx')


def _playground(name: str) -> Any:
  try:
    with runtime.quiet():
      from mujoco_playground import registry  # pyright: ignore
  except ImportError as error:
    raise ValueError(
      f'playground:{name} needs the package playground ({error}); '
      'pip install playground'
    ) from None
  _choose('playground', name, registry.ALL_ENVS)

  def make():
    config = registry.get_default_config(name)
    overrides: Any = {'impl': 'jax'} if 'impl' in config else {}
    return registry.load(name, config=config, config_overrides=overrides)

  try:
    with runtime.quiet():
      return checks.call(f'playground:{name}', make)
  except ValueError as error:
    hint = 'its release does not go with the installed mujoco'
    if name not in registry.dm_control_suite.ALL_ENVS:
      hint = 'it needs mujoco_menagerie, which playground downloads by git'
    raise ValueError(f'{error}; {hint}') from None


def _imported(module: str, function: str) -> Any:
  """The environment that a user's function returns."""
  name = f'{module}:{function}'
  try:
    found = importlib.import_module(module)
    make: Callable[[], Any] = functools.reduce(
      getattr, function.split('.'), found
    )
  except (Exception, SystemExit) as error:  # whatever the module does
    raise ValueError(
      f'No task {name}: {type(error).__name__}: {error}. It is brax:<name>, '
      'playground:<name>, or module:function of an importable module.'
    ) from None
  return checks.call(f'{name}()', make)


def _choose(source: str, name: str, names: Any) -> None:
  if name not in names:
    raise ValueError(
      f'No task {source}:{name}. There are: {", ".join(sorted(names))}'
    )


_SOURCES = {'brax': _brax, 'playground': _playground}
