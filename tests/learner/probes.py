"""Environments whose Q-values are known, each for one thing that can break."""

import jax
import jax.numpy as jnp

from mjx_crossq.envs.base import Env, State


class Probe(Env):
  """A tiny environment; `pipeline_state` is its hidden state."""

  name = 'probe'
  episode_length = 1
  observation_size = 1
  action_size = 1

  def reset(self, rng):
    hidden = self.initial(rng)
    zero = jnp.float32(0)
    return State(hidden, self.observe(hidden), zero, zero)

  def initial(self, rng):
    return jnp.zeros((), jnp.float32)

  def observe(self, hidden):
    return jnp.reshape(hidden, (1,))

  def step(self, state, action):
    hidden, reward, done = self.transition(state.pipeline_state, action)
    return state.replace(
      pipeline_state=hidden,
      obs=self.observe(hidden),
      reward=jnp.float32(reward),
      done=jnp.float32(done),
    )


class ConstantReward(Probe):
  """Reward 1, then the end: Q = 1."""

  terminates = True

  def transition(self, hidden, action):
    return hidden, 1.0, 1.0


class ObservedReward(Probe):
  """The reward is the observation, -1 or 1: Q(o) = o."""

  terminates = True

  def initial(self, rng):
    return jnp.where(jax.random.bernoulli(rng), 1.0, -1.0)

  def transition(self, hidden, action):
    return hidden, hidden, 1.0


class DelayedReward(Probe):
  """Observation 0, then 1 and reward 1: Q(0) = gamma, Q(1) = 1."""

  terminates = True
  episode_length = 2

  def transition(self, hidden, action):
    last = hidden > 0.5
    return jnp.float32(1), jnp.where(last, 1.0, 0.0), last


class ActionReward(Probe):
  """Reward 1 - (a - 1/2)^2 and the end: Q depends on the action alone."""

  terminates = True

  def transition(self, hidden, action):
    return hidden, 1 - (action[0] - 0.5) ** 2, 1.0


class Privileged(Probe):
  """Reward -1 or 1, which only the critic sees: Q(o) = o, at random actions.

  The actor sees noise, and a critic that saw it in place of its own part would
  have Q = 0.
  """

  terminates = True
  observation_size = 3
  actor_observation = (0, 2)
  critic_observation = (2, 3)

  def initial(self, rng):
    noise = jax.random.normal(rng, (2,))
    sign = jnp.where(jax.random.bernoulli(jax.random.fold_in(rng, 1)), 1.0, -1)
    return jnp.append(noise, sign)

  def observe(self, hidden):
    return hidden

  def transition(self, hidden, action):
    return hidden, hidden[2], 1.0


class TimeLimit(Probe):
  """Reward 1 for ever, cut after five steps: Q = 1 / (1 - gamma)."""

  episode_length = 5

  def transition(self, hidden, action):
    return hidden, 1.0, 0.0


class Termination(TimeLimit):
  """The same, but the fifth step is a true end and bootstraps nothing."""

  terminates = True
  episode_length = 1000

  def observe(self, hidden):
    return jnp.reshape(hidden / 4, (1,))

  def transition(self, hidden, action):
    return hidden + 1, 1.0, hidden >= 4


class Counter(Probe):
  """Counts its steps from a random start; the action only shows.

  The observation is (start, steps so far), so that a test can tell which
  transitions belong together.
  """

  observation_size = 2

  def __init__(self, episode_length=10, ends_at=None):
    self.episode_length = episode_length
    self.terminates = ends_at is not None
    self._ends_at = ends_at

  def initial(self, rng):
    return jnp.stack([jax.random.uniform(rng), jnp.float32(0)])

  def observe(self, hidden):
    return hidden

  def transition(self, hidden, action):
    hidden = hidden + jnp.array([0.0, 1.0])
    done = self.terminates and hidden[1] >= self._ends_at
    return hidden, hidden[1], done


class Rough(Counter):
  """A `Counter` that is refused unless unfaithful tasks are allowed."""

  unfaithful = 'it is only a sketch'


class Watched(Counter):
  """A `Counter` that leaves out a contact in every step from one on."""

  watched = ('contacts_dropped', 'solver_capped')

  def __init__(self, first, episode_length=10, ends_at=None):
    super().__init__(episode_length, ends_at)
    self._first = first

  def watch(self, state):
    dropped = (state.pipeline_state[1] >= self._first).astype(jnp.float32)
    return {'contacts_dropped': dropped, 'solver_capped': 2 * dropped}
