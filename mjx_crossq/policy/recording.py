"""Episodes of a policy, recorded so that they can be drawn.

If the task has a stock environment, the episodes are played there and have the
returns that `StockEvaluation` measures. Any other environment that has a MuJoCo
model plays them itself.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from mjx_crossq.config import ConfigError
from mjx_crossq.device.runner import Runner
from mjx_crossq.envs import runtime
from mjx_crossq.host.evaluation import StockEpisodes, has_stock
from mjx_crossq.learner.states import Network


@dataclasses.dataclass(frozen=True)
class Episode:
  """An episode's states, with the model to draw them.

  Attributes:
    seed: of the policy.
    dt: seconds between two states.
    states: qpos, qvel and act after each env step, `(steps + 1, n)`; the first
      is the initial state.
    returns: the sum of rewards up to each state, `(steps + 1,)`.
    physics: dm_control's `Physics` with the model of the episode.
  """

  seed: int
  dt: float
  states: np.ndarray
  returns: np.ndarray
  physics: Any

  @property
  def steps(self) -> int:
    """Env steps of the episode."""
    return len(self.states) - 1

  def place(self, at: int) -> Any:
    """Its physics in the state after `at` env steps, or in the last state."""
    self.physics.set_state(self.states[min(at, self.steps)])
    self.physics.forward()
    return self.physics


def record(
  runner: Runner,
  policy: Network,
  step: int,
  rows: Sequence[int] | None = None,
  episode: int = 0,
  env_steps: int | None = None,
  seconds: float | None = None,
) -> list[Episode]:
  """Plays an episode of an evaluation with each seed's deterministic policy.

  Args:
    runner: of the run.
    policy: actors of all seeds.
    step: env step of the policy.
    rows: indices of the runner's seeds; None for all.
    episode: index of the episode in the evaluation.
    env_steps: number of env steps; None plays complete episodes.
    seconds: the same as simulated time.

  Returns:
    One episode for each row.

  Raises:
    ConfigError: the environment has no model that can be drawn, or an
      evaluation has no such episode.
  """
  count = runner.config.eval_episodes
  if not 0 <= episode < count:
    raise ConfigError(
      f'no episode {episode}: an evaluation of the run has 0 to {count - 1}'
    )
  env = runner.trainer.rollout.env
  rows = range(len(runner.seeds)) if rows is None else rows
  play = _stock if has_stock(env) else _own
  return play(runner, env, policy, step, rows, episode, env_steps, seconds)


def _limit(dt: float, env_steps: int | None, seconds: float | None):
  """The shorter of two limits, in env steps; None for none."""
  limits = [] if env_steps is None else [env_steps]
  if seconds is not None:
    limits.append(max(1, round(seconds / dt)))
  return min(limits, default=None)


def _stock(runner, env, policy, step, rows, episode, env_steps, seconds):
  """Plays in stock dm_control."""
  played = StockEpisodes(runner, env, len(rows))
  dt = played.stock[0].control_timestep()
  states: list[list[np.ndarray]] = [[] for _ in rows]
  rewards: list[list[float]] = [[] for _ in rows]

  def watch(index, stock, reward):
    states[index].append(stock.physics.get_state().copy())
    rewards[index].append(reward)

  cells = [(row, episode) for row in rows]
  limit = _limit(dt, env_steps, seconds)
  played.play(policy, step, cells, watch, limit)
  physics = [stock.physics for stock in played.stock]
  return _episodes(runner, rows, dt, states, rewards, physics)


def _own(runner, env, policy, step, rows, episode, env_steps, seconds):
  """Plays in an environment without a stock one, env step by env step."""
  model = getattr(env, 'mj_model', None)
  if model is None or not hasattr(env, 'physics_states'):
    raise ConfigError(
      f'{env.name} has neither a stock environment nor a MuJoCo model; it '
      'cannot be drawn'
    )
  with runtime.quiet():
    from dm_control import mujoco
    from dm_control.mujoco import wrapper
  c = runner.config
  dt = env.control_timestep
  length = min(env.episode_length, _limit(dt, env_steps, seconds) or 10**9)
  keys = runner.reset_keys(step)[np.array(rows), episode]
  advance = jax.jit(jax.vmap(env.step))
  state = jax.jit(jax.vmap(env.reset))(keys)
  states = [[] for _ in rows]
  rewards = [[] for _ in rows]
  alive = np.ones(len(rows), bool)

  def record_state(reward):
    for index, placed in enumerate(env.physics_states(state)):
      if alive[index]:
        states[index].append(placed)
        rewards[index].append(float(reward[index]))

  record_state(np.zeros(len(rows)))
  action: Any = None
  for done in range(length):
    if done % c.action_repeat == 0:
      obs = np.zeros((len(runner.seeds), c.eval_episodes, env.observation_size))
      obs = obs.astype(np.float32)
      obs[rows, episode] = state.obs
      action = runner.act(policy, obs)[rows, episode]
    state = advance(state, action)
    record_state(np.asarray(state.reward))
    alive &= np.asarray(state.done) == 0
    if not alive.any():
      break
  physics = [mujoco.Physics.from_model(wrapper.MjModel(model)) for _ in rows]
  return _episodes(runner, rows, dt, states, rewards, physics)


def _episodes(runner, rows, dt, states, rewards, physics):
  """An `Episode` for each row."""
  return [
    Episode(
      seed=runner.seeds[row],
      dt=dt,
      states=np.stack(states[index]),
      returns=np.cumsum(rewards[index]),
      physics=physics[index],
    )
    for index, row in enumerate(rows)
  ]
