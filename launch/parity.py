"""Measures how faithful tasks are to stock dm_control, and writes the report.

python -m launch.parity --tasks=paper
"""

import functools
import importlib.metadata
import itertools
import json
from pathlib import Path
from typing import Any

from absl import flags

from mjx_crossq.launch import cli, parity_report

MEASURES = tuple(parity_report.HEADINGS)
_PACKAGES = {
  'mjx': ['jax', 'mujoco-mjx', 'dm_control'],
  'warp': ['jax', 'mujoco-mjx', 'warp-lang', 'dm_control'],
}

_TASKS = flags.DEFINE_list(
  'tasks', ['paper'], 'paper, benchmarking, all, or tasks by name'
)
_PHYSICS = flags.DEFINE_list('physics', ['mjx'], 'mjx, warp, or both')
_MEASURES = flags.DEFINE_list(
  'measures', list(MEASURES), f'which of {", ".join(MEASURES)}'
)
_ROLLOUTS = flags.DEFINE_integer(
  'rollouts', 12, 'stock rollouts of which 25 states each are compared', 1
)
_CONTACT_STEPS = flags.DEFINE_integer(
  'contact_steps', 2000, 'control steps in stock whose contacts are counted', 1
)
_EPISODES = flags.DEFINE_integer(
  'episodes', 100, 'episodes in MJX and in stock for the returns', 2
)
_SEED = flags.DEFINE_integer('seed', 0, 'of the first of these episodes', 0)
_DRAWS = flags.DEFINE_integer(
  'draws', 2000, 'initial states from MJX and from stock', 10
)
_RESETS = flags.DEFINE_integer(
  'resets', 100_000, 'resets in MJX that must not begin in contact', 1
)
_STEPS = flags.DEFINE_integer(
  'steps', 1_000_000, 'control steps under random actions without a NaN', 1
)
_POLICY = flags.DEFINE_string(
  'policy', None, 'workdir of a run; its policy is compared in its task'
)
_JSON = flags.DEFINE_string(
  'json', 'docs/parity.json', 'results, merged with those that it holds'
)
_REPORT = flags.DEFINE_string('report', 'docs/parity.md', 'the report')


def main() -> None:
  """Reads the flags, measures task by task, and writes after each."""
  from mjx_crossq import envs
  from mjx_crossq.config import ConfigError
  from mjx_crossq.limits import CHOICES

  for flag, allowed in ((_MEASURES, MEASURES), (_PHYSICS, CHOICES['physics'])):
    unknown = set(flag.value) - set(allowed)
    if unknown:
      raise ConfigError(
        f'--{flag.name} has {sorted(unknown)[0]!r}; choose from {allowed}'
      )
  path, report = Path(_JSON.value), Path(_REPORT.value)
  for file in (path, report):
    if not file.parent.is_dir():
      raise ConfigError(f'{file.parent} is no folder; make it first')
  results = json.loads(path.read_text()) if path.exists() else {}
  tasks = cli.expand_tasks(_TASKS.value)
  cli.use_compilation_cache()
  for physics, task in itertools.product(_PHYSICS.value, tasks):
    env = cli.load_env(task, physics, allow_unfaithful=True)
    result = results.setdefault(physics, {}).setdefault(task, {})
    result['unfaithful'] = env.unfaithful
    for name in MEASURES:
      if name not in _MEASURES.value:
        continue
      values = _MEASURE[name](env)
      trained = values.get('policy') == 'trained'
      result[parity_report.TRAINED[name] if trained else name] = values
      print(
        f'{task:24} {physics:4} {name:9} {parity_report.line(name, values)}',
        flush=True,
      )
    result['versions'] = {
      package: importlib.metadata.version(package)
      for package in _PACKAGES[physics]
    }
    ordered = {
      p: {t: results[p][t] for t in envs.ALL_TASKS if t in results[p]}
      for p in CHOICES['physics']
      if p in results
    }
    path.write_text(json.dumps(ordered, indent=1) + '\n')
    report.write_text(parity_report.markdown(ordered))


@functools.lru_cache(maxsize=1)
def _records(env: Any) -> tuple[Any, Any]:
  from mjx_crossq.envs.parity import measures as parity

  records = parity.collect(env, episodes=_ROLLOUTS.value)
  return records, parity.start(env, records)


def _quantiles(values: Any) -> list[float]:
  """Median, 99 % and maximum."""
  import numpy as np

  return [float(np.quantile(values, q)) for q in (0.5, 0.99, 1)]


def _state(env: Any) -> dict[str, Any]:
  import numpy as np

  from mjx_crossq.envs.parity import bounds
  from mjx_crossq.envs.parity import measures as parity

  records, states = _records(env)
  errors = parity.state_errors(states, records)
  spec = env.stock_env(0).observation_spec()
  solved = np.concatenate(
    [np.full(x.shape, k in env.from_solve).ravel() for k, x in spec.items()]
  )
  obs = float(errors.obs[:, ~solved].max())
  # In a few states two geoms are within float32's resolution of touching.
  solve = float(np.quantile(errors.obs[:, solved].max(axis=1, initial=0), 0.99))
  reward = float(errors.reward.max())
  limit = _bounds(env)
  good = max(obs, reward) < bounds.state(env.name) and solve < limit.solve
  return {'obs': obs, 'solve': solve, 'reward': reward, 'pass': bool(good)}


def _bounds(env: Any) -> Any:
  """The task's bounds; those of no task where it is not faithful."""
  from mjx_crossq.envs.parity import bounds

  try:
    return bounds.of(env.name, env.backend)
  except KeyError:
    return bounds.Bounds(0, (0, 0), (0, 0), solve=1e-3)


def _physics(env: Any) -> dict[str, Any]:
  from mjx_crossq.envs.parity import measures as parity

  records, states = _records(env)
  errors = parity.physics_errors(env, states, records)
  result: dict[str, Any] = {k: _quantiles(v) for k, v in errors.items()}
  limit = _bounds(env)
  result['bounds'] = {'v1': limit.v1, 'v25': limit.v25}
  result['pass'] = all(
    value < bound
    for name in ('v1', 'v25')
    for value, bound in zip(result[name][:2], getattr(limit, name), strict=True)
  )
  return result


def _initial(env: Any) -> dict[str, Any]:
  from mjx_crossq.envs.parity import bounds
  from mjx_crossq.envs.parity import measures as parity

  pvalues = parity.initial_pvalues(env, _DRAWS.value)
  worst = min(pvalues, key=pvalues.__getitem__)
  return {
    'pvalue': pvalues[worst],
    'coordinate': worst,
    'coordinates': len(pvalues),
    'draws': _DRAWS.value,
    'pass': bool(pvalues[worst] > bounds.PVALUE / len(pvalues)),
  }


def _contacts(env: Any) -> dict[str, Any]:
  from mjx_crossq.envs.parity import contacts

  policy, name = None, 'random'
  if _POLICY.value:
    policy, name = _trained(env, _POLICY.value), 'trained'
  result = contacts.contacts(env, _CONTACT_STEPS.value, policy)
  result |= {'policy': name, 'steps': _CONTACT_STEPS.value}
  room = [
    result[room] is None or result[need] <= result[room]
    for need, room in (('most', 'slots'), ('pairs', 'kept_pairs'))
  ]
  result['pass'] = all(room) and result['dropped'] == 0
  return result


def _returns(env: Any) -> dict[str, Any]:
  import numpy as np

  from mjx_crossq.envs.parity import bounds, rollouts
  from mjx_crossq.envs.parity import measures as parity

  policy, name = rollouts.random_policy(env), 'random linear'
  if _POLICY.value:
    policy, name = _trained(env, _POLICY.value), 'trained'
  ours, stock = rollouts.episodes(env, policy, _EPISODES.value, _SEED.value)
  pvalues = {
    key: [
      parity.two_sample_pvalue(x, y)
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
    'episodes': _EPISODES.value,
    'ours': means[0].pop('return'),
    'stock': means[1].pop('return'),
    'standard_error': float(error),
    'means': {k: [ours_k, means[1][k]] for k, ours_k in means[0].items()},
    'pvalues': {k: min(values) for k, values in pvalues.items()},
    'tests': tests,
    'pass': bool(
      abs(difference) <= max(2 * error, 1e-3) and lowest > bounds.PVALUE / tests
    ),
  }


def _trained(env: Any, workdir: str) -> Any:
  """The deterministic policy of the run's first seed."""
  import jax

  from mjx_crossq import envs
  from mjx_crossq.config import ConfigError
  from mjx_crossq.policy import loading

  load = functools.partial(envs.load, allow_unfaithful=True)
  runner, policies, _ = loading.load_policy(workdir, load, physics=env.backend)
  if runner.config.task != env.name:
    raise ConfigError(
      f'--policy was trained on {runner.config.task}; give --tasks='
      f'{runner.config.task}'
    )
  policy = jax.tree.map(lambda x: x[0], policies)
  act = runner.trainer.agent.act_deterministic
  return jax.jit(lambda obs: act(policy, obs))


def _resets(env: Any) -> dict[str, Any]:
  from mjx_crossq.envs.parity import rollouts

  draws = _RESETS.value if env.clear_resets else 0
  failures = rollouts.reset_failures(env, draws)
  return {'failures': failures, 'of': draws, 'pass': failures == 0}


def _finite(env: Any) -> dict[str, Any]:
  from mjx_crossq.envs.parity import rollouts

  failures, steps = rollouts.faults(env, _STEPS.value)
  return {'failures': failures, 'of': steps, 'pass': failures == 0}


def _speed(env: Any) -> dict[str, Any]:
  from mjx_crossq.envs.parity import rollouts

  return rollouts.speed(env)


_MEASURE = {
  'state': _state,
  'physics': _physics,
  'initial': _initial,
  'contacts': _contacts,
  'returns': _returns,
  'resets': _resets,
  'finite': _finite,
  'speed': _speed,
}


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
