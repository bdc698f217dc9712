"""Measures how far a task is from the stock task that it mirrors.

Tests assert on these numbers and `launch.parity` prints them. Errors are
absolute, or relative where the stock value is larger than 1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jp
import numpy as np
from scipy import stats

from mjx_crossq.envs import prng, suite
from mjx_crossq.envs.mjx import models
from mjx_crossq.envs.parity.records import Records, collect, to_stock

__all__ = [
  'Errors',
  'Records',
  'c_velocities',
  'collect',
  'initial_pvalues',
  'physics_errors',
  'relative',
  'start',
  'state_errors',
  'step_errors',
  'to_stock',
  'two_sample_pvalue',
]

# Batches have this size, so that each function compiles once.
_BATCH = 100


def relative(value: Any, stock: Any) -> np.ndarray:
  """|value - stock|, divided by |stock| where that is larger than 1."""
  value, stock = np.asarray(value, np.float64), np.asarray(stock, np.float64)
  return np.abs(value - stock) / np.maximum(1, np.abs(stock))


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
  dtype = jp.zeros(()).dtype
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
    states: the result of `start` for the records.
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
    states: the result of `start` for the records.
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
  env: suite.SuiteEnv,
  states: Any,
  records: Records,
  horizon: int = 25,
  chunk: int = 1,
) -> dict[str, np.ndarray]:
  """Compares velocities with C MuJoCo's under constant control.

  Args:
    env: the task.
    states: the result of `start` for the records.
    records: stock's states and actions.
    horizon: physics steps of the long comparison.
    chunk: physics steps of the short one; divides `horizon`. The environment's
      own number of substeps spares a compilation.

  Returns:
    Largest absolute difference over `qvel`'s coordinates, `(N,)` each: 'v1'
    after `chunk` physics steps (it has that number in its name), 'v25' likewise
    after `horizon`, and 'floor', which is C's own
    after `horizon` steps when it starts from the state as rounded for ours.
  """

  def advance(info, data, ctrl):
    return env.physics.step(env.model_at(info), data, ctrl, chunk)

  ctrl = to_stock(env, records.action)
  data, ours = states.pipeline_state, []
  for _ in range(horizon // chunk):
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
    f'v{chunk}': largest(ours[0], stock[chunk - 1]),
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
    models.mujoco.mj_resetData(model, data)
    env.write_params(physics, {k: v[i] for k, v in records.params.items()})
    data.qpos[:] = records.qpos[i]
    data.qvel[:] = records.qvel[i]
    data.act[:] = records.act[i]
    data.qacc_warmstart[:] = records.warmstart[i]
    data.ctrl[:] = ctrl[i]
    for step in range(horizon):
      models.mujoco.mj_step(model, data)
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
    `two_sample_pvalue` of each coordinate of qpos, qvel and the parameters.
  """

  @jax.jit  # Else each batch would be traced anew.
  def view(key):
    initial = env.initial(key)
    data = env.place(initial)
    state = {'qpos': data.qpos, 'qvel': data.qvel, 'act': data.act}
    return state | (initial.params or {})

  ours = _batched(view, jax.random.split(prng.key(seed), draws))
  env_stock, rows = env.stock_env(seed), []
  for _ in range(draws):
    env_stock.reset()
    physics = env_stock.physics
    rows.append(
      {
        'qpos': physics.data.qpos.copy(),
        'qvel': physics.data.qvel.copy(),
        'act': physics.data.act.copy(),
        **env.read_params(physics),
      }
    )
  result = {}
  for name, values in ours.items():
    stock = np.array([row[name] for row in rows])
    size = stock.shape[1]
    # A sample represents the thousands of heights of a terrain.
    for i in np.unique(np.linspace(0, size - 1, min(size, 200)).astype(int)):
      result[f'{name}[{i}]'] = two_sample_pvalue(values[:, i], stock[:, i])
  return result


def two_sample_pvalue(
  ours: np.ndarray, stock: np.ndarray, *, rare: bool = False
) -> float:
  """Tests whether two samples come from the same distribution.

  Args:
    ours: `(N,)`.
    stock: `(M,)`.
    rare: stock's draws may all be equal by chance, as touches that hardly ever
      happen are: how many of ours differ then counts.

  Returns:
    p-value of Kolmogorov-Smirnov's test and, since that hardly sees the ends,
    of how many draws of one sample lie beyond the range of the other, corrected
    for the five tests. For constants, whether they are equal: 1 or 0.
  """
  if np.ptp(stock) == 0:
    equal = np.isclose(ours, stock[0], rtol=1e-6, atol=1e-6)
    if not (rare and equal.any()):
      return float(equal.all())
    ours = np.where(equal, stock[0], ours)
  # A value that both draw often may be rounded differently.
  ours = np.round(np.asarray(ours, np.float64), 6)
  stock = np.round(np.asarray(stock, np.float64), 6)
  result: Any = stats.ks_2samp(ours, stock)
  pvalues = [float(result.pvalue)]
  for a, b in ((ours, stock), (stock, ours)):
    share = len(a) / (len(a) + len(b))
    # The k largest (or smallest) of all draws are all from one sample.
    pvalues += [share ** np.sum(a > b.max()), share ** np.sum(a < b.min())]
  return min(1.0, len(pvalues) * min(pvalues))
