"""Tasks as `dm_env.Environment`, with the specs that stock has.

env = Environment(envs.load('walker-walk'), seed=0)
timestep = env.reset()
"""

from collections import OrderedDict
from typing import Any

import dm_env
import jax
import jax.numpy as jnp
import numpy as np
from dm_env import specs

from mjx_crossq.envs import base, opengl, pictures

_FLAT = 'observations'
"""dm_control's name of an observation that is one vector."""


class Environment(dm_env.Environment):
  """One environment of a task, as `suite.load` gives it, simulated in JAX.

  Observations, actions, discounts and the first and last timesteps are stock's.
  A task that mirrors nothing observes one float32 vector, 'observations'.

  Attributes:
    task: the environment behind it.
  """

  def __init__(self, task: base.Env, seed: int | None = None):
    """Builds the environment; `reset` begins the first episode.

    Args:
      task: of the suite, or any other.
      seed: of the initial states; of it the low 32 bits count. None for one
        from the operating system.
    """
    self.task = task
    drawn: Any = np.random.SeedSequence().entropy if seed is None else seed
    self._seed = np.uint32(drawn % 2**32)
    self._episode = 0
    self._steps = 0
    self._over = True
    self._state: Any = None
    self._key = jax.jit(base.episode_key)
    self._reset = jax.jit(task.reset)
    self._step = jax.jit(task.step)
    self._low, self._high = (np.float64(x) for x in task.action_range)
    self._stock = task.stock_env(seed=0)
    if self._stock is None:
      flat = specs.Array((task.observation_size,), np.float32, _FLAT)
      self._observation_spec = OrderedDict({_FLAT: flat})
    else:
      self._observation_spec = self._stock.observation_spec()

  def reset(self) -> dm_env.TimeStep:
    """Begins an episode in a fresh random state.

    Returns:
      A first timestep, without reward and discount.
    """
    key = self._key(self._seed, np.int32(self._episode))
    state = self._reset(key)
    self._episode += 1
    return self.restart(state)

  def restart(self, state: Any) -> dm_env.TimeStep:
    """Begins an episode in a given state.

    Args:
      state: of the task, such as `task.state_from(qpos, qvel)`.

    Returns:
      A first timestep, without reward and discount.
    """
    self._state, self._steps, self._over = state, 0, False
    return dm_env.restart(self._observation())

  def step(self, action: Any) -> dm_env.TimeStep:
    """Takes one control step, or begins an episode where none is under way.

    Args:
      action: within `action_spec`; what is beyond its bounds is clipped.

    Returns:
      The timestep. The last one's discount is 1 at the time limit, and 0 where
      the task terminates.
    """
    if self._over:
      return self.reset()
    span = self._high - self._low
    scaled = 2 * (np.asarray(action) - self._low) / span - 1
    self._state = self._step(self._state, jnp.asarray(scaled, jnp.float32))
    self._steps += 1
    reward, observation = float(self._state.reward), self._observation()
    self._over = True
    if self._steps >= self.task.episode_length:
      return dm_env.truncation(reward, observation)
    if self.task.terminates and self._state.done:
      return dm_env.termination(reward, observation)
    self._over = False
    return dm_env.transition(reward, observation)

  def observation_spec(self) -> Any:
    """Stock's specs by name, in stock's order."""
    return self._observation_spec

  def action_spec(self) -> Any:
    """Stock's spec; where stock has no bounds (lqr), they are -1 and 1."""
    spec = self._stock and self._stock.action_spec()
    if spec and np.array_equal(np.float32(spec.maximum), self._high):
      return spec
    low, high = self._low, self._high
    return specs.BoundedArray(low.shape, np.float64, low, high, 'action')

  def control_timestep(self) -> float:
    """Seconds between two actions."""
    return self._known.control_timestep()

  @property
  def physics(self) -> Any:
    """Stock's `Physics` in the simulation's current state, to read or render.

    It is a copy: later steps do not change it, and changing it has no effect on
    the simulation.
    """
    opengl.choose_at_first_picture()
    physics, state = self._known.physics, self._state
    if state is not None:
      seconds = self._steps * self.control_timestep()
      pictures.place(self.task, physics, state, seconds)
    return physics

  @property
  def _known(self) -> Any:
    """The stock environment."""
    if self._stock is None:
      raise ValueError(f'{self.task.name} mirrors no task of dm_control')
    return self._stock

  def _observation(self) -> OrderedDict[str, np.ndarray]:
    """The flat observation split into the arrays of the spec."""
    flat, result = np.asarray(self._state.obs), OrderedDict()
    for name, spec in self._observation_spec.items():
      part, flat = np.split(flat, [int(np.prod(spec.shape))])
      result[name] = part.reshape(spec.shape).astype(spec.dtype)
    return result
