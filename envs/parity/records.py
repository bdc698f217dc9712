"""Results of stock dm_control in states of its own rollouts."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from mjx_crossq.envs import base, suite

# Poses, velocities and parameters that pay, where the model file's do not.
_REWARDED: dict[str, dict[str, Any]] = {
  'ball_in_cup': {'qpos': (0.0, 0.0, 0.0, 0.35)},
  'finger': {'qvel': (0.0, 0.0, -15.0), 'params': {'target': (0.2, 0.53)}},
  'reacher': {'qpos': (0.0, np.pi / 2), 'params': {'target': (0.12, 0.12)}},
}


@dataclasses.dataclass(frozen=True)
class Records:
  """Results of stock in N states of its own rollouts; float64 arrays `(N, …)`.

  Attributes:
    qpos: positions.
    qvel: velocities.
    act: activations.
    warmstart: the solver's warm start.
    params: the episode's parameters, by name.
    action: the action taken there, in [-1, 1].
    obs: observation after a reset into the state.
    reward: reward there.
    next_obs: observation after the action.
    next_reward: reward after it.
  """

  qpos: np.ndarray
  qvel: np.ndarray
  act: np.ndarray
  warmstart: np.ndarray
  params: dict[str, np.ndarray]
  action: np.ndarray
  obs: np.ndarray
  reward: np.ndarray
  next_obs: np.ndarray
  next_reward: np.ndarray

  def __len__(self) -> int:
    """Number of states."""
    return len(self.qpos)


def _uniform(rng: np.random.RandomState, size: int) -> Iterator[np.ndarray]:
  while True:
    yield rng.uniform(-1, 1, size)


def _small(rng: np.random.RandomState, size: int) -> Iterator[np.ndarray]:
  while True:
    yield rng.uniform(-0.1, 0.1, size)


def _held(rng: np.random.RandomState, size: int) -> Iterator[np.ndarray]:
  while True:
    action = rng.choice([-1.0, 0.0, 1.0], size)
    for _ in range(20):
      yield action


def _waves(rng: np.random.RandomState, size: int) -> Iterator[np.ndarray]:
  period, phase = rng.uniform(10, 100, size), rng.uniform(0, 2 * np.pi, size)
  step = 0
  while True:
    yield np.sin(2 * np.pi * step / period + phase)
    step += 1


_ACTIONS: tuple[Callable[..., Iterator[np.ndarray]], ...] = (
  _uniform,
  _held,
  _waves,
  _small,
)


def action_sequences(
  rng: np.random.RandomState, size: int, episode: int
) -> Iterator[np.ndarray]:
  """Random or scripted actions; their kinds take turns.

  Args:
    rng: drawn from.
    size: entries of an action.
    episode: decides the kind.

  Returns:
    Endless actions `(size,)` in [-1, 1].
  """
  return _ACTIONS[episode % len(_ACTIONS)](rng, size)


def to_stock(env: suite.SuiteEnv, action: np.ndarray) -> np.ndarray:
  """Rescales an action in [-1, 1] to stock's range."""
  low, high = env.action_range
  return low + (action + 1) / 2 * (high - low)


def collect(
  env: suite.SuiteEnv,
  episodes: int = 12,
  steps: int = 500,
  per_episode: int = 25,
  seed: int = 0,
) -> Records:
  """Visits states in stock rollouts under random and scripted actions.

  Args:
    env: the task.
    episodes: rollouts; kinds of actions take turns. Every third begins near a
      pose that pays, such as upright, where random actions rarely get.
    steps: control steps of each.
    per_episode: states kept of each, evenly spaced, the initial one included.
    seed: of the rollouts.

  Returns:
    `episodes * per_episode` records.
  """
  stock, probe = env.stock_env(seed), env.stock_env(seed)
  probe.reset()
  rng = np.random.RandomState(seed)
  keep = set(np.linspace(0, steps - 1, per_episode).astype(int))
  rows = []
  for episode in range(episodes):
    stock.reset()
    if episode % 3 == 2:
      _place_near_reward(env, stock.physics, rng)
    actions = action_sequences(rng, env.action_size, episode)
    for step, action in zip(range(steps), actions, strict=False):
      row = _describe(env, stock.physics, probe) if step in keep else None
      outcome = stock.step(to_stock(env, action))
      if row is not None:
        row['action'] = action
        row['next_obs'] = base.flatten_observation(outcome.observation)
        row['next_reward'] = outcome.reward
        rows.append(row)
  columns = {k: [row[k] for row in rows] for k in rows[0]}
  params = columns.pop('params')
  params = {k: np.array([p[k] for p in params]) for k in params[0]}
  arrays = {k: np.array(v, np.float64) for k, v in columns.items()}
  return Records(params=params, **arrays)


def _place_near_reward(
  env: suite.SuiteEnv, physics: Any, rng: np.random.RandomState
) -> None:
  """Puts stock's robot near a pose that pays, in slow motion."""
  domain = env.name.split('-')[0]
  good = _REWARDED.get(domain, {})
  qpos, qvel = good.get('qpos', physics.model.qpos0), good.get('qvel', 0.0)
  with physics.reset_context():
    env.write_params(physics, good.get('params', {}))
    physics.data.qpos[:] = qpos + rng.uniform(-0.01, 0.01, len(qpos))
    physics.data.qvel[:] = qvel + rng.uniform(-0.1, 0.1, physics.model.nv)


def _describe(env: suite.SuiteEnv, physics: Any, probe: Any) -> dict[str, Any]:
  """Reads a stock state, and what `probe` makes of a reset into it."""
  data, params = physics.data, env.read_params(physics)
  with probe.physics.reset_context():
    env.write_params(probe.physics, params)
    probe.physics.data.qpos[:] = data.qpos
    probe.physics.data.qvel[:] = data.qvel
    probe.physics.data.act[:] = data.act
  return {
    'qpos': data.qpos.copy(),
    'qvel': data.qvel.copy(),
    'act': data.act.copy(),
    'warmstart': data.qacc_warmstart.copy(),
    'params': params,
    'obs': base.flatten_observation(probe.task.get_observation(probe.physics)),
    'reward': probe.task.get_reward(probe.physics),
  }
