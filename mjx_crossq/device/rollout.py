"""Acting in the environments of one seed, and the ends of episodes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from mjx_crossq.device import faults
from mjx_crossq.envs import prng
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError
from mjx_crossq.learner import reward_scale
from mjx_crossq.learner.states import Transition

Policy = Callable[[jax.Array], jax.Array]
Counts = dict[str, jax.Array]
# brax's State with an observation vector, or a batch of them.
State = Any


@struct.dataclass
class RolloutState:
  """The environments of one seed; leaves have them as their first axis.

  Attributes:
    env: environment states.
    episode_return: undiscounted return of the episode so far.
    episode_length: its env steps so far; 0 where one is to begin.
    last_return: return of the last finished episode; NaN before the first.
    reward_stats: moments of the discounted returns, or None if they are not
      measured.
    noise: what exploration keeps from decision to decision (`learner.noise`),
      or None if it keeps nothing.
  """

  env: State
  episode_return: jax.Array
  episode_length: jax.Array
  last_return: jax.Array
  reward_stats: Any = None
  noise: Any = None


@dataclasses.dataclass(frozen=True)
class Rollout:
  """Steps `num_envs` environments and starts episodes anew.

  Attributes:
    env: the environment.
    num_envs: environments of this seed.
    action_repeat: env steps per decision; divides the episode's length.
    groups: of environments, whose clocks are shifted evenly over an episode; at
      most one for each decision of it.
  """

  env: Env
  num_envs: int
  action_repeat: int
  groups: int = 1

  def __post_init__(self):
    """An episode must end on a decision."""
    if self.env.episode_length % self.action_repeat:
      raise ConfigError(
        f'action_repeat={self.action_repeat} must divide the '
        f'{self.env.episode_length} env steps of an episode of {self.env.name}'
      )
    object.__setattr__(self, 'groups', min(self.groups, self.decisions))

  @property
  def decisions(self) -> int:
    """Of an episode that the time limit ends."""
    return self.env.episode_length // self.action_repeat

  @property
  def offsets(self) -> np.ndarray:
    """How far each clock is ahead of the first one's, env steps `(num_envs,)`.

    The groups are consecutive environments, as equal in size as may be.
    """
    group = np.arange(self.num_envs) * self.groups // self.num_envs
    return group * self.decisions // self.groups * self.action_repeat

  def init(
    self, *, keep_return_stats: bool = False, keep_largest: bool = False
  ) -> RolloutState:
    """Environments whose first episode is still to begin.

    No physics is computed, nor compiled: `begin` does it, within the program
    that needs it in any case.

    Args:
      keep_return_stats: whether `step` measures the discounted returns.
      keep_largest: whether these have the largest of them.
    """
    key = jax.eval_shape(prng.key, 0)
    return RolloutState(
      env=jax.tree.map(_zeros, jax.eval_shape(self._reset, key)),
      episode_return=jnp.zeros(self.num_envs),
      episode_length=jnp.zeros(self.num_envs, jnp.int32),
      last_return=jnp.full(self.num_envs, jnp.nan, jnp.float32),
      reward_stats=(
        reward_scale.init(self.num_envs, keep_largest=keep_largest)
        if keep_return_stats
        else None
      ),
    )

  def begin(self, state: RolloutState, key: jax.Array) -> RolloutState:
    """Starts episodes where the last one is over, at fresh random states.

    Resets are computed for as many environments as the largest group has, until
    no environment of any seed is over. That is no trip of the loop at most
    decisions, and one when a group's time is up. The loop's condition is
    the same for all seeds, so that it stays one under `vmap`. The initial state
    of an environment does not depend on the groups.

    Args:
      state: the environments, between two decisions.
      key: randomness of the resets.

    Returns:
      The environments, of which each is within an episode.
    """

    def body(carry):
      _, env, over = carry
      env, over = self._begin_some(env, over, key)
      return faults.any_seed(jnp.any(over)), env, over

    over = state.episode_length == 0
    carry = faults.any_seed(jnp.any(over)), state.env, over
    env = jax.lax.while_loop(lambda carry: carry[0], body, carry)[1]
    return state.replace(env=env)  # pyright: ignore

  def _begin_some(
    self, env: State, over: jax.Array, key: jax.Array
  ) -> tuple[State, jax.Array]:
    """Resets the first environments that are over, and who still is then."""
    if self.groups == 1:
      return _select(over, self._reset(key), env), jnp.zeros_like(over)
    count = -(-self.num_envs // self.groups)
    # Those that are over come first; others among the rows stay as they are.
    rows = jnp.argsort(~over)[:count]
    keys = jax.random.split(key, self.num_envs)[rows]
    old = jax.tree.map(lambda x: x[rows], env)
    new = _select(over[rows], _each(self.env.reset, keys), old)
    env = jax.tree.map(
      lambda x, rows_of_x: x.at[rows].set(rows_of_x, unique_indices=True),
      env,
      new,
    )
    return env, over.at[rows].set(False)

  def step(
    self,
    state: RolloutState,
    action: jax.Array,
    iteration: jax.Array,
    gamma: float | jax.Array | None = None,
  ) -> tuple[RolloutState, Transition, jax.Array, Counts]:
    """One decision in every environment.

    The transition holds the true next observation, and so does the state:
    where an episode is over, `begin` replaces it. An episode is also over where
    the physics broke; neither its return counts nor that of the shorter episode
    that follows until the time limit. Nor does that of the episode that is cut
    once so that the clocks of the groups differ.

    Args:
      state: the environments, as `begin` returns them.
      action: `(num_envs, action_size)` in [-1, 1].
      iteration: decisions that each environment has taken before.
      gamma: discount of the returns that `state.reward_stats` measures; not
        used where it is None.

    Returns:
      The environments, `num_envs` transitions, which of them have only
      finite numbers, `(num_envs,)`, and the counts of `Env.watch` in the
      decision's env steps, `(num_envs,)` each.
    """
    env, reward, counts = _each(self._repeat, state.env, action)
    finite = faults.finite_environments(env, self.env.simulated(env))
    finite &= jnp.isfinite(reward)
    reward = jnp.where(finite, reward, 0.0)
    transition = Transition(
      state.env.obs, action, reward, 1.0 - env.done, env.obs
    )
    episode_return = state.episode_return + reward
    episode_length = state.episode_length + self.action_repeat
    limit = self.env.episode_length
    taken = (iteration + 1) * self.action_repeat
    clock = taken % limit == jnp.asarray(-self.offsets % limit, jnp.int32)
    ended = episode_length >= limit
    if self.env.terminates:
      # These have clocks of their own, which are shifted once.
      clock &= taken < limit
      ended |= env.done > 0
    over = ended | clock | ~finite
    ended &= finite
    stats = state.reward_stats
    if stats is not None:
      assert gamma is not None, 'the discount of the returns is missing'
      stats = reward_scale.update(stats, reward, over, gamma)
    state = RolloutState(
      env=env,
      episode_return=jnp.where(over, 0.0, episode_return),
      episode_length=jnp.where(over, 0, episode_length),
      last_return=jnp.where(ended, episode_return, state.last_return),
      reward_stats=stats,
      noise=state.noise,
    )
    return state, transition, finite, counts

  def returns(self, policy: Policy, key: jax.Array) -> jax.Array:
    """Returns of one fresh episode in each environment.

    Args:
      policy: maps `(num_envs, observation_size)` to actions.
      key: randomness of the initial states.

    Returns:
      Undiscounted returns, `(num_envs,)`.
    """

    def body(_, carry):
      env, total, alive = carry
      env, reward, _ = _each(self._repeat, env, policy(env.obs))
      return env, total + alive * reward, alive * (1.0 - env.done)

    carry = (
      self._reset(key),
      jnp.zeros(self.num_envs),
      jnp.ones(self.num_envs),
    )
    return jax.lax.fori_loop(0, self.decisions, body, carry)[1]

  def trajectories(
    self, act: Callable[..., tuple], key: jax.Array, decisions: int
  ) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
    """A fresh episode in each environment, decision by decision.

    It goes on past the time limit if more decisions are asked for: the limit is
    kept by the trainer, not by the environments.

    Args:
      act: maps `(num_envs, observation_size)` and a key to the actions, and
        to a tree of anything else that is to be recorded.
      key: randomness of the initial states and the actions.
      decisions: how many to take.

    Returns:
      What `act` recorded; rewards; whether the decision was taken, 0 after a
      true termination; and `mask`, 0 where it led to a termination. All with
      leading axes `(decisions, num_envs)`.
    """
    key_reset, key_act = jax.random.split(key)

    def step(carry, key):
      env, alive = carry
      action, record = act(env.obs, key)
      env, reward, _ = _each(self._repeat, env, action)
      mask = alive * (1.0 - env.done)
      return (env, mask), (record, alive * reward, alive, mask)

    carry = self._reset(key_reset), jnp.ones(self.num_envs)
    keys = jax.random.split(key_act, decisions)
    return jax.lax.scan(step, carry, keys)[1]

  def _reset(self, key: jax.Array) -> State:
    return _each(self.env.reset, jax.random.split(key, self.num_envs))

  def _repeat(
    self, state: State, action: jax.Array
  ) -> tuple[State, jax.Array, Counts]:
    """`action_repeat` env steps of one environment; stops at its end."""

    def body(carry, _):
      state, total, counts = carry
      new = self.env.step(state, action)
      reward, more = new.reward, self.env.watch(new)
      if self.env.terminates:
        reward = jnp.where(state.done > 0, 0.0, reward)
        more = {k: jnp.where(state.done > 0, 0.0, x) for k, x in more.items()}
        new = _select(state.done > 0, state, new)
      return (new, total + reward, jax.tree.map(jnp.add, counts, more)), None

    counts = {name: jnp.float32(0) for name in self.env.watched}
    carry = (state, jnp.float32(0), counts)
    if self.action_repeat == 1:
      return body(carry, None)[0]
    return jax.lax.scan(body, carry, length=self.action_repeat)[0]


def _each(function: Callable[..., Any], *args: Any) -> Any:
  """`function` of each environment, the leading axis of all arguments.

  A single one is traced without `vmap`, in a third less of the time
  (docs/performance.md).
  """
  if len(jax.tree.leaves(args)[0]) != 1:
    return jax.vmap(function)(*args)
  only = function(*jax.tree.map(lambda x: x[0], args))
  return jax.tree.map(lambda x: jnp.expand_dims(x, 0), only)


def _zeros(like: jax.ShapeDtypeStruct) -> jax.Array:
  """Zeros of a shape and type; keys whose data are zeros for a key's type."""
  return jnp.zeros(like.shape, like.dtype)


def _select(condition: jax.Array, a: State, b: State) -> State:
  """`where` over two states; `condition` has the leaves' leading axes."""

  def select(x, y):
    extra = x.ndim - condition.ndim
    return jnp.where(condition.reshape(condition.shape + (1,) * extra), x, y)

  return jax.tree.map(select, a, b)
