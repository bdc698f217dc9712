"""Measures how faithful a task is to stock dm_control, for `launch.parity`."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from mjx_crossq import envs, load_policy
from mjx_crossq.config import ConfigError
from mjx_crossq.envs.parity import bounds, contacts, measures, rollouts


@dataclasses.dataclass(frozen=True)
class Sizes:
  """How much is measured.

  Attributes:
    rollouts: stock rollouts of which 25 states each are compared.
    contact_steps: control steps in stock whose contacts are counted.
    episodes: in MJX and in stock.
    seed: of the first of these episodes.
    draws: initial states from MJX and from stock.
    resets: in MJX.
    steps: control steps under random actions.
    policy: workdir of a run whose policy acts in the episodes and contacts;
      None for random actions.
  """

  rollouts: int
  contact_steps: int
  episodes: int
  seed: int
  draws: int
  resets: int
  steps: int
  policy: str | None


class Fidelity:
  """Measurements of one task; each returns figures for JSON."""

  def __init__(self, env: Any, sizes: Sizes):
    """Measures nothing yet.

    Args:
      env: the task.
      sizes: how much is measured.
    """
    self._env = env
    self._sizes = sizes

  @functools.cached_property
  def _records(self) -> tuple[Any, Any]:
    """Records of stock rollouts, and our states that equal them."""
    records = measures.collect(self._env, episodes=self._sizes.rollouts)
    return records, measures.start(self._env, records)

  def state(self) -> dict[str, Any]:
    """The largest errors of observations and rewards in equal states."""
    records, states = self._records
    errors = measures.state_errors(states, records)
    spec = self._env.stock_env(0).observation_spec()
    solved = np.concatenate(
      [
        np.full(x.shape, k in self._env.from_solve).ravel()
        for k, x in spec.items()
      ]
    )
    obs = float(errors.obs[:, ~solved].max())
    # In a few states two geoms are within float32's resolution of touching.
    solve = float(
      np.quantile(errors.obs[:, solved].max(axis=1, initial=0), 0.99)
    )
    reward = float(errors.reward.max())
    limit = self._bounds()
    good = (
      max(obs, reward) < bounds.state(self._env.name) and solve < limit.solve
    )
    return {'obs': obs, 'solve': solve, 'reward': reward, 'pass': bool(good)}

  def _bounds(self) -> Any:
    """The task's bounds; those of a task that is not faithful are 0."""
    try:
      return bounds.of(self._env.name, self._env.backend)
    except KeyError:
      return bounds.Bounds(0, (0, 0), (0, 0), solve=1e-3)

  def physics(self) -> dict[str, Any]:
    """Errors of velocities after 1 and 25 control steps."""
    records, states = self._records
    errors = measures.physics_errors(self._env, states, records)
    result: dict[str, Any] = {k: _quantiles(v) for k, v in errors.items()}
    limit = self._bounds()
    result['bounds'] = {'v1': limit.v1, 'v25': limit.v25}
    result['pass'] = all(
      value < bound
      for name in ('v1', 'v25')
      for value, bound in zip(
        result[name][:2], getattr(limit, name), strict=True
      )
    )
    return result

  def initial(self) -> dict[str, Any]:
    """The lowest p-value of the two distributions of initial states."""
    pvalues = measures.initial_pvalues(self._env, self._sizes.draws)
    worst = min(pvalues, key=pvalues.__getitem__)
    return {
      'pvalue': pvalues[worst],
      'coordinate': worst,
      'coordinates': len(pvalues),
      'draws': self._sizes.draws,
      'pass': bool(pvalues[worst] > bounds.PVALUE / len(pvalues)),
    }

  def contacts(self) -> dict[str, Any]:
    """Contacts of stock that our model has no room for."""
    policy, name = None, 'random'
    if self._sizes.policy:
      policy, name = self._trained(self._sizes.policy), 'trained'
    result = contacts.contacts(self._env, self._sizes.contact_steps, policy)
    result |= {'policy': name, 'steps': self._sizes.contact_steps}
    room = [
      result[room] is None or result[need] <= result[room]
      for need, room in (('most', 'slots'), ('pairs', 'kept_pairs'))
    ]
    result['pass'] = all(room) and result['dropped'] == 0
    return result

  def returns(self) -> dict[str, Any]:
    """Returns and other distributions of episodes of one policy."""
    policy, name = rollouts.random_policy(self._env), 'random linear'
    if self._sizes.policy:
      policy, name = self._trained(self._sizes.policy), 'trained'
    ours, stock = rollouts.episodes(
      self._env, policy, self._sizes.episodes, self._sizes.seed
    )
    pvalues = {
      key: [
        measures.two_sample_pvalue(x, y, rare=True)
        for x, y in zip(
          np.atleast_2d(ours[key].T), np.atleast_2d(of.T), strict=True
        )
      ]
      for key, of in stock.items()
    }
    tests = sum(map(len, pvalues.values()))
    lowest = min(min(values) for values in pvalues.values())
    error = np.hypot(
      *(
        np.std(x['return'], ddof=1) / len(x['return']) ** 0.5
        for x in (ours, stock)
      )
    )
    means = [
      {k: float(x[k].mean()) for k in x if k != 'obs'} for x in (ours, stock)
    ]
    difference = means[0]['return'] - means[1]['return']
    return {
      'policy': name,
      'episodes': self._sizes.episodes,
      'ours': means[0].pop('return'),
      'stock': means[1].pop('return'),
      'standard_error': float(error),
      'means': {k: [ours_k, means[1][k]] for k, ours_k in means[0].items()},
      'pvalues': {k: min(values) for k, values in pvalues.items()},
      'tests': tests,
      'pass': bool(
        abs(difference) <= max(2 * error, 1e-3)
        and lowest > bounds.PVALUE / tests
      ),
    }

  def resets(self) -> dict[str, Any]:
    """Resets that begin in contact."""
    draws = self._sizes.resets if self._env.clear_resets else 0
    failures = rollouts.reset_failures(self._env, draws)
    return {'failures': failures, 'of': draws, 'pass': failures == 0}

  def finite(self) -> dict[str, Any]:
    """Control steps that give NaN or infinity."""
    failures, steps = rollouts.faults(self._env, self._sizes.steps)
    return {'failures': failures, 'of': steps, 'pass': failures == 0}

  def speed(self) -> dict[str, Any]:
    """Control steps per second, ours and those of C."""
    return rollouts.speed(self._env)

  def _trained(self, workdir: str) -> Any:
    """The deterministic policy of the run's first seed."""
    load = functools.partial(envs.load, allow_unfaithful=True)
    runner, policies, _ = load_policy(workdir, load, physics=self._env.backend)
    if runner.config.task != self._env.name:
      raise ConfigError(
        f'--policy was trained on {runner.config.task}; give --tasks='
        f'{runner.config.task}'
      )
    policy = jax.tree.map(lambda x: x[0], policies)
    act = runner.trainer.agent.act_deterministic
    return jax.jit(lambda obs: act(policy, obs))


def _quantiles(values: Any) -> list[float]:
  """Median, 99 % and maximum."""
  return [float(np.quantile(values, q)) for q in (0.5, 0.99, 1)]
