"""Measurements of whole episodes, of resets and of speed, beside stock.

`launch.parity` prints these figures beside the errors of `measures`.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import jax
import jax.numpy as jp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from mjx_crossq.envs import prng, suite
from mjx_crossq.envs.base import flatten_observation
from mjx_crossq.envs.mjx import models, physics
from mjx_crossq.envs.parity.records import to_stock

Policy = Callable[[Any], jax.Array]
"""Maps observations `(N, observation_size)` to actions in [-1, 1]."""

_BATCH = 256
_DOWN = 0.6
"""A body that floats has fallen below this part of its height in the model."""
_SPEED_SECONDS = 1.0
"""Approximate length of each timed run, in seconds."""


def random_policy(env: suite.SuiteEnv, seed: int = 0) -> Policy:
  """A fixed, untrained policy that reacts to its observations.

  Args:
    env: the task.
    seed: of the weights.

  Returns:
    The hyperbolic tangent of a random linear map.
  """
  shape = (env.observation_size, env.action_size)
  weights = jax.random.normal(prng.key(seed), shape)
  weights /= np.sqrt(env.observation_size)
  return jax.jit(lambda obs: jp.tanh(obs @ weights))


def episodes(
  env: suite.SuiteEnv, policy: Policy, count: int, seed: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """Runs a policy in MJX and in stock from the same initial states.

  Args:
    env: the task.
    policy: acts.
    count: how many episodes; stock draws their initial states.
    seed: of the first one.

  Returns:
    For MJX and for stock, with a leading axis of episodes: 'return', without
    discount; 'obs', each coordinate's mean over time. Where the task's first
    joint is free, also of that body: 'height' and 'speed', means over time in m
    and, in the plane, m/s; 'falls', how often it sinks below `_DOWN` of the
    model's own height.
  """
  stock = [env.stock_env(seed + i) for i in range(count)]
  timesteps = [stock_env.reset() for stock_env in stock]
  starts = []
  for stock_env in stock:
    data = stock_env.physics.data
    state = [np.float32(x) for x in (data.qpos, data.qvel, data.act)]
    params = env.read_params(stock_env.physics)
    starts.append((*state, {k: np.float32(v) for k, v in params.items()}))

  @jax.jit
  def play(starts):
    def body(carry, _):
      state, before = carry
      state = jax.vmap(env.step)(state, policy(state.obs))
      data: Any = state.pipeline_state
      seen = _seen(env, state.reward, state.obs, data.qpos, data.qvel, before)
      return (state, data.qpos), (seen, 1 - state.done)

    state = jax.vmap(env.state_from)(*starts)
    data: Any = state.pipeline_state
    steps = env.episode_length
    return jax.lax.scan(body, (state, data.qpos), length=steps)[1]

  seen, goes_on = play(jax.tree.map(lambda *x: np.stack(x), *starts))
  # In float32 a sum of 1,000 equal numbers is off by more than p-values allow.
  seen = {k: np.asarray(x, np.float64) for k, x in seen.items()}
  ours, alive = None, np.ones(count)
  for i, ends_not in enumerate(np.asarray(goes_on)):
    ours = _add(ours, {k: x[i] for k, x in seen.items()}, alive)
    alive = alive * ends_not
  sums, alive = None, np.ones(count)
  before = np.stack([e.physics.data.qpos for e in stock])
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    for _ in range(env.episode_length):
      obs = np.stack([flatten_observation(t.observation) for t in timesteps])
      actions = to_stock(env, np.asarray(policy(obs), np.float64))
      timesteps = list(pool.map(lambda e, a: e.step(a), stock, actions))
      obs = np.stack([flatten_observation(t.observation) for t in timesteps])
      reward = np.array([t.reward or 0.0 for t in timesteps])
      qpos, qvel = (
        np.stack([getattr(e.physics.data, name) for e in stock])
        for name in ('qpos', 'qvel')
      )
      seen = _seen(env, reward, obs, qpos, qvel, before)
      sums, before = _add(sums, seen, alive), qpos
      alive *= [t.discount is None or t.discount > 0 for t in timesteps]
  return _means(ours), _means(sums)


def _seen(
  env: suite.SuiteEnv, reward: Any, obs: Any, qpos: Any, qvel: Any, before: Any
) -> dict[str, Any]:
  """The quantities of one step that `episodes` adds up."""
  seen = {'return': reward, 'steps': reward * 0 + 1, 'obs': obs}
  model = env.mj_model
  if model.jnt_type[0] == models.mujoco.mjtJoint.mjJNT_FREE:
    low = _DOWN * model.qpos0[2]
    seen['height'] = qpos[:, 2]
    seen['speed'] = (qvel[:, 0] ** 2 + qvel[:, 1] ** 2) ** 0.5
    seen['falls'] = (before[:, 2] >= low) & (qpos[:, 2] < low)
  return seen


def _add(sums: Any, seen: dict[str, Any], alive: Any) -> dict[str, Any]:
  """Sums with those of one more step; an episode that has ended adds 0."""
  weighted = {k: (x.T * alive).T for k, x in seen.items()}
  if sums is None:
    return weighted
  return {k: sums[k] + x for k, x in weighted.items()}


def _means(sums: Any) -> dict[str, np.ndarray]:
  """Sums over episodes, of which some are divided by their length."""
  sums = {k: np.asarray(x, np.float64) for k, x in sums.items()}
  steps = sums.pop('steps')
  return {
    k: x if k in ('return', 'falls') else (x.T / steps).T
    for k, x in sums.items()
  }


def reset_failures(env: suite.SuiteEnv, draws: int) -> int:
  """Counts initial states with contacts, of tasks whose stock has none.

  Args:
    env: the task.
    draws: initial states to look at.

  Returns:
    Their number.
  """

  @jax.jit
  def touches(key):
    initial = env.initial(key)
    model = env.model_at(initial.params or {})
    return physics.penetrates(model, env.place(initial))

  batch, failures = jax.jit(jax.vmap(touches)), 0
  for start in range(0, draws, _BATCH):
    keys = jax.vmap(prng.key)(jp.arange(start, start + _BATCH))
    failures += int(np.sum(batch(keys)[: draws - start]))
  return failures


def _uniform(
  step: Any, shape: tuple[int, ...], key: jax.Array | None = None
) -> jax.Array:
  """Uniform random actions of a step."""
  key = prng.key(0) if key is None else key
  return jax.random.uniform(
    jax.random.fold_in(key, step), shape, minval=-1, maxval=1
  )


def faults(env: suite.SuiteEnv, steps: int) -> tuple[int, int]:
  """Counts control steps with non-finite results under random actions.

  Args:
    env: the task.
    steps: control steps at least, over environments of whole episodes.

  Returns:
    Steps with an observation or reward that is not finite, and all steps.
  """
  num_envs = min(_BATCH, -(-steps // env.episode_length))
  episodes = -(-steps // (num_envs * env.episode_length))

  @jax.jit
  def play(key):
    def body(step, carry):
      state, count = carry
      actions = _uniform(step, (num_envs, env.action_size), key)
      state = jax.vmap(env.step)(state, actions)
      obs: Any = state.obs
      finite = jp.isfinite(obs).all(axis=1) & jp.isfinite(state.reward)
      return state, count + jp.sum(~finite)

    state = jax.vmap(env.reset)(jax.random.split(key, num_envs))
    carry = (state, jp.zeros((), jp.int32))
    return jax.lax.fori_loop(0, env.episode_length, body, carry)[1]

  count = sum(int(play(prng.key(i))) for i in range(episodes))
  return count, episodes * num_envs * env.episode_length


def speed(env: suite.SuiteEnv, num_envs: int = 32) -> dict[str, float]:
  """Control steps per second beside those of C on one thread.

  Args:
    env: the task.
    num_envs: environments stepped at once.

  Returns:
    'compile_seconds' of the batched step, without the persistent cache;
    'steps_per_second', all environments together; 'c_steps_per_second' of
    stock's physics, measured in between; medians of three.
  """
  keys = jax.random.split(prng.key(0), num_envs)
  shapes = jax.eval_shape(jax.vmap(env.reset), keys)
  size = env.action_size

  @jax.jit
  def run(states, steps):
    def body(step, states):
      return jax.vmap(env.step)(states, _uniform(step, (num_envs, size)))

    return jax.lax.fori_loop(0, steps, body, states)

  lowered = run.lower(shapes, np.int32(1))
  start = time.monotonic()
  with _no_compilation_cache():
    compiled = lowered.compile()
  compile_seconds = time.monotonic() - start
  states = jax.vmap(env.reset)(keys)
  c_env = env.stock_env(0)
  c_env.reset()

  def ours(steps: int) -> float:
    nonlocal states
    start = time.monotonic()
    states = jax.block_until_ready(compiled(states, np.int32(steps)))
    return time.monotonic() - start

  def stock(steps: int) -> float:
    actions = to_stock(env, np.random.uniform(-1, 1, (steps, size)))
    start = time.monotonic()
    for action in actions:
      c_env.physics.set_control(action)
      c_env.physics.step(env.substeps)
    return time.monotonic() - start

  rates = {'steps_per_second': [], 'c_steps_per_second': []}
  sides = tuple(zip(rates, (ours, stock), (num_envs, 1), strict=True))
  # The first calls are not timed: memory is allocated, and the robots fall.
  counts = {}
  for name, play, _ in sides:
    play(10)
    counts[name] = max(1, int(10 * _SPEED_SECONDS / play(10)))
  for _ in range(3):
    for name, play, batch in sides:
      rates[name].append(counts[name] * batch / play(counts[name]))
  return {
    'compile_seconds': compile_seconds,
    **{name: float(np.median(values)) for name, values in rates.items()},
  }


@contextlib.contextmanager
def _no_compilation_cache() -> Iterator[None]:
  """Compiles without reading the persistent compilation cache."""
  folder = jax.config.jax_compilation_cache_dir  # pyright: ignore
  jax.config.update('jax_compilation_cache_dir', None)
  compilation_cache.reset_cache()
  try:
    yield
  finally:
    jax.config.update('jax_compilation_cache_dir', folder)
    compilation_cache.reset_cache()
