"""Measures how far a task is from the stock task that it mirrors.

Tests assert on these numbers and `launch.parity` prints them. Errors are
absolute, or relative where the stock value is larger than 1.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import mujoco
import numpy as np
from scipy import stats

from envs import base, suite
from envs import physics as physics_lib

# Batches have this size, so that each function compiles once.
_BATCH = 300

# Poses that pay, where the model's default pose does not.
_REWARDED = {'ball_in_cup': (0.0, 0.0, 0.0, 0.35)}


@dataclasses.dataclass(frozen=True)
class Records:
  """What stock did in N states of its own rollouts; float64 arrays `(N, …)`.

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


def relative(value: Any, stock: Any) -> np.ndarray:
  """|value - stock|, divided by |stock| where that is larger than 1."""
  value, stock = np.asarray(value, np.float64), np.asarray(stock, np.float64)
  return np.abs(value - stock) / np.maximum(1, np.abs(stock))


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
    actions = _ACTIONS[episode % len(_ACTIONS)](rng, env.action_size)
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
  pose = np.array(_REWARDED.get(domain, physics.model.qpos0))
  with physics.reset_context():
    physics.data.qpos[:] = pose + rng.uniform(-0.01, 0.01, pose.size)
    physics.data.qvel[:] = rng.uniform(-0.1, 0.1, physics.model.nv)


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


def _batched(function: Callable[..., Any], *args: Any) -> Any:
  """Maps over the leading axis in batches of one size; returns NumPy."""
  size = len(jax.tree.leaves(args)[0])
  mapped, parts = jax.vmap(function), []
  for start in range(0, size, _BATCH):
    index = np.minimum(np.arange(start, start + _BATCH), size - 1)
    part = mapped(*jax.tree.map(lambda x, i=index: x[i], args))
    parts.append(jax.tree.map(lambda x: np.asarray(x), part))
  return jax.tree.map(lambda *x: np.concatenate(x)[:size], *parts)


def _floats(tree: Any) -> Any:
  """Rounds to the precision that jax is set to, float32 as a rule."""
  dtype = jax.dtypes.canonicalize_dtype(np.float64)
  return jax.tree.map(lambda x: np.asarray(x, dtype), tree)


@dataclasses.dataclass(frozen=True)
class Errors:
  """Errors over N states.

  Attributes:
    obs: `(N, observation_size)`.
    reward: `(N,)`.
  """

  obs: np.ndarray
  reward: np.ndarray


def start(env: suite.SuiteEnv, records: Records) -> Any:
  """The environment's states at stock's, with stock's warm starts.

  Args:
    env: the task.
    records: stock's states.

  Returns:
    A `State` of NumPy arrays with a leading axis of N.
  """

  def view(qpos, qvel, act, params, warmstart):
    state = env.state_from(qpos, qvel, act, params)
    data: Any = state.pipeline_state
    data = data.replace(qacc_warmstart=warmstart)
    return state.replace(pipeline_state=data)  # pyright: ignore

  r = records
  args = (r.qpos, r.qvel, r.act, r.params, r.warmstart)
  return _batched(view, *_floats(args))


def state_errors(states: Any, records: Records) -> Errors:
  """Compares `state_from` with a stock reset into the same states.

  Args:
    states: what `start` made of the records.
    records: stock's states.

  Returns:
    Errors of observation and reward.
  """
  return Errors(
    relative(states.obs, records.obs), relative(states.reward, records.reward)
  )


def step_errors(env: suite.SuiteEnv, states: Any, records: Records) -> Errors:
  """Compares one `step` with stock's from the same states and warm starts.

  Args:
    env: the task.
    states: what `start` made of the records.
    records: stock's states.

  Returns:
    Errors of observation and reward after the step.
  """

  def view(state, action):
    state = env.step(state, action)
    return state.obs, state.reward

  obs, reward = _batched(view, states, _floats(records.action))
  return Errors(
    relative(obs, records.next_obs), relative(reward, records.next_reward)
  )


def physics_errors(
  env: suite.SuiteEnv, states: Any, records: Records, horizon: int = 25
) -> dict[str, np.ndarray]:
  """Compares velocities with C MuJoCo's under constant control.

  Args:
    env: the task.
    states: what `start` made of the records.
    records: stock's states and actions.
    horizon: physics steps of the long comparison.

  Returns:
    Largest absolute difference over `qvel`'s coordinates, `(N,)` each: 'v1'
    after one physics step, 'vN' after `horizon`, and 'floor', which is C's own
    after `horizon` steps when it starts from the state as rounded for ours.
  """

  def advance(info, data, ctrl):
    return physics_lib.step(env.model_at(info), data, ctrl, 1)

  ctrl = to_stock(env, records.action)
  data, ours = states.pipeline_state, []
  for _ in range(horizon):
    data = _batched(advance, states.info, data, _floats(ctrl))
    ours.append(data.qvel)
  stock = c_velocities(env, records, ctrl, horizon)
  rounded = dataclasses.replace(
    records, qpos=_floats(records.qpos), qvel=_floats(records.qvel)
  )
  floor = c_velocities(env, rounded, _floats(ctrl), horizon)

  def largest(a, b):
    return np.abs(a - b).max(axis=-1)

  return {
    'v1': largest(ours[0], stock[0]),
    f'v{horizon}': largest(ours[-1], stock[-1]),
    'floor': largest(floor[-1], stock[-1]),
  }


def c_velocities(
  env: suite.SuiteEnv, records: Records, ctrl: np.ndarray, horizon: int
) -> np.ndarray:
  """Stock C MuJoCo's velocities under constant control.

  Args:
    env: the task.
    records: initial states.
    ctrl: `(N, nu)`, stock's units.
    horizon: physics steps.

  Returns:
    `(horizon, N, nv)`.
  """
  physics = env.stock_env(0).physics
  model, data = physics.model.ptr, physics.data.ptr
  result = np.zeros((horizon, len(records), model.nv))
  for i in range(len(records)):
    mujoco.mj_resetData(model, data)
    env.write_params(physics, {k: v[i] for k, v in records.params.items()})
    data.qpos[:] = records.qpos[i]
    data.qvel[:] = records.qvel[i]
    data.act[:] = records.act[i]
    data.qacc_warmstart[:] = records.warmstart[i]
    data.ctrl[:] = ctrl[i]
    for step in range(horizon):
      mujoco.mj_step(model, data)
      result[step, i] = data.qvel
  return result


def initial_pvalues(
  env: suite.SuiteEnv, draws: int = 2000, seed: int = 0
) -> dict[str, float]:
  """Compares initial distributions coordinate by coordinate.

  Args:
    env: the task.
    draws: from either side.
    seed: of both sides.

  Returns:
    p-value of the two-sample Kolmogorov-Smirnov test per coordinate of qpos,
    qvel and the parameters. For a coordinate that stock never varies, 1 if ours
    is the same constant and 0 otherwise.
  """

  def view(key):
    qpos, qvel, params = env.initial(key)
    return {'qpos': qpos, 'qvel': qvel, **params}

  ours = _batched(view, jax.random.split(jax.random.key(seed), draws))
  env_stock, rows = env.stock_env(seed), []
  for _ in range(draws):
    env_stock.reset()
    physics = env_stock.physics
    rows.append(
      {
        'qpos': physics.data.qpos.copy(),
        'qvel': physics.data.qvel.copy(),
        **env.read_params(physics),
      }
    )
  result = {}
  for name, values in ours.items():
    stock = np.array([row[name] for row in rows])
    for i in range(stock.shape[1]):
      result[f'{name}[{i}]'] = _pvalue(values[:, i], stock[:, i])
  return result


def _pvalue(ours: np.ndarray, stock: np.ndarray) -> float:
  """Two-sample test; constants must be equal to float32's precision."""
  if np.ptp(stock) == 0:
    return float(np.allclose(ours, stock[0], rtol=1e-6, atol=1e-6))
  return float(stats.ks_2samp(ours, stock).pvalue)
