"""Measures how faithful tasks are to stock dm_control, and writes the report.

python -m launch.parity --tasks=paper
"""

import importlib.metadata
import itertools
import json
from pathlib import Path

from absl import flags

from mjx_crossq import envs
from mjx_crossq.config import ConfigError, choices
from mjx_crossq.launch import cli, parity_report, path_flags

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
_POLICY = path_flags.define(
  'policy', None, 'workdir of a run; its policy is compared in its task'
)
_JSON = path_flags.define(
  'json',
  None,
  'results, merged with those that it holds (docs/parity.json, or beside '
  '--report)',
)
_REPORT = path_flags.define(
  'report', None, 'the report (docs/parity.md, or beside --json)'
)


def main() -> None:
  """Reads the flags, measures, and writes after each measurement."""
  for flag, allowed in ((_MEASURES, MEASURES), (_PHYSICS, choices('physics'))):
    unknown = set(flag.value) - set(allowed)
    if unknown:
      raise ConfigError(
        f'--{flag.name} has {sorted(unknown)[0]!r}; choose from {allowed}'
      )
  path, report = _files()
  for file in (path, report):
    if not file.parent.is_dir():
      raise ConfigError(f'{file.parent} is not a folder; create it first')
  results = json.loads(path.read_text()) if path.exists() else {}
  tasks = cli.expand_tasks(_TASKS.value)
  # This loads JAX and MuJoCo; wrong flags are refused before that.
  from mjx_crossq.launch.bench import fidelity

  sizes = fidelity.Sizes(
    rollouts=_ROLLOUTS.value,
    contact_steps=_CONTACT_STEPS.value,
    episodes=_EPISODES.value,
    seed=_SEED.value,
    draws=_DRAWS.value,
    resets=_RESETS.value,
    steps=_STEPS.value,
    policy=_POLICY.value,
  )
  cli.use_compilation_cache()
  for physics, task in itertools.product(_PHYSICS.value, tasks):
    env = cli.load_env(task, physics, allow_unfaithful=True)
    measured = fidelity.Fidelity(env, sizes)
    result = results.setdefault(physics, {}).setdefault(task, {})
    result['unfaithful'] = env.unfaithful
    result['versions'] = {
      package: importlib.metadata.version(package)
      for package in _PACKAGES[physics]
    }
    for name in MEASURES:
      if name not in _MEASURES.value:
        continue
      values = getattr(measured, name)()
      trained = values.get('policy') == 'trained'
      result[parity_report.TRAINED[name] if trained else name] = values
      print(
        f'{task:24} {physics:4} {name:9} {parity_report.line(name, values)}',
        flush=True,
      )
      ordered = {
        p: {t: results[p][t] for t in envs.ALL_TASKS if t in results[p]}
        for p in choices('physics')
        if p in results
      }
      path.write_text(json.dumps(ordered, indent=1) + '\n')
      report.write_text(parity_report.markdown(ordered))


def _files() -> tuple[Path, Path]:
  """The results and the report; one that no flag names lies by the other.

  Raises:
    ConfigError: both are the same file.
  """
  default = _REPORT.value or 'docs/parity.json'
  path = Path(_JSON.value or Path(default).with_suffix('.json'))
  report = Path(_REPORT.value or path.with_suffix('.md'))
  if path == report:
    raise ConfigError(
      f'the results and the report would both be {path}; name another file '
      'by --json or --report'
    )
  return path, report


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
