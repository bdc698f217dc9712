"""Published returns on stock dm_control; docs/baselines.md says whose.

The files have a row `algorithm,task,seed,env_step,episode_return` for each
evaluation of each run, in env steps as DMC counts them.
"""

import csv
import functools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from mjx_crossq.config import one_of
from mjx_crossq.results.curves import Curves, Trace, align

PATHS = tuple(
  Path(__file__).with_name(name)
  for name in ('dmc_returns.csv', 'dmc_returns_2026.csv')
)

BEST = ('DR.Q', 'FlashSAC')
"""Those with the highest IQM over the paper's tasks at 1M env steps, and over
its dog and humanoid tasks (docs/baselines.md)."""


def load(
  algorithm: str, tasks: Sequence[str] | None = None
) -> dict[str, Curves]:
  """Learning curves of a published algorithm.

  Args:
    algorithm: such as 'BRO_utd10'; see `algorithms`.
    tasks: names of tasks; None for all of the algorithm's.

  Returns:
    Returns of its runs by task.

  Raises:
    ConfigError: there is no such algorithm, or it does not have such a task;
      the message names the nearest.
  """
  known = _read()
  one_of('baseline', algorithm, known)
  found = known[algorithm]
  for task in tasks or ():
    one_of(f'task of {algorithm}', task, found)
  return {t: found[t] for t in (found if tasks is None else tasks)}


def algorithms() -> tuple[str, ...]:
  """Names of the published algorithms."""
  return tuple(_read())


@functools.cache
def _read() -> dict[str, dict[str, Curves]]:
  """All curves by algorithm and task."""
  rows: dict = defaultdict(
    lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
  )
  for path in PATHS:
    with path.open(encoding='utf-8', newline='') as file:
      for name, task, seed, step, value in list(csv.reader(file))[1:]:
        rows[name][task][seed][int(step)].append(float(value))
  return {
    name: {task: align(_runs(seeds)) for task, seeds in tasks.items()}
    for name, tasks in rows.items()
  }


def _runs(seeds: Mapping[str, Mapping[int, list[float]]]) -> list[Trace]:
  """The distinct runs of a task.

  As released, SimbaV2_utd8 has copies of its dog and humanoid runs: five runs
  in 14 traces. Up to three traces have the same seed, and then two of them are
  copies of one run. So of the values at an env step, the one that occurs twice
  belongs to one run and the other value to the other run; if all agree, there
  is one value. Copies under different seeds are dropped. Where every seed has
  one value for each env step, each trace is a run.
  """
  if all(len(x) == 1 for trace in seeds.values() for x in trace.values()):
    return [{s: x[0] for s, x in trace.items()} for trace in seeds.values()]
  distinct: dict[tuple, Trace] = {}
  for trace in seeds.values():
    ranked = {
      step: [value for value, _ in Counter(values).most_common()]
      for step, values in trace.items()
    }
    for run in range(max(map(len, ranked.values()))):
      one = {step: v[min(run, len(v) - 1)] for step, v in ranked.items()}
      distinct[tuple(sorted(one.items()))] = one
  return list(distinct.values())
