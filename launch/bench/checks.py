"""Limits on ratios of times that the training loop must keep on a CPU.

Ratios are compared, not times, because machines differ and have other load. The
programs of a ratio are timed alternately.
"""

import itertools
from typing import Any

from mjx_crossq import envs, from_preset
from mjx_crossq.launch.bench import cases, timing

_TASKS = ('cheetah-run', 'pendulum-swingup')
"""A task with slow physics, and one that compiles quickly."""


def run(repeats: int) -> list[dict[str, Any]]:
  """Measures every ratio, and prints each when it is known.

  Args:
    repeats: of each program.

  Returns:
    A row for each ratio.
  """
  cheetah, pendulum = map(envs.load, _TASKS)
  rows: list[dict[str, Any]] = []
  for check in (_overhead, _delay, _capacity, _seeds, _doubling):
    env = cheetah if check is _overhead else pendulum
    for what, ratio, limit in check(env, repeats):
      passed = bool(ratio <= limit)
      rows.append(
        {'what': what, 'ratio': ratio, 'limit': limit, 'pass': passed}
      )
      verdict = 'pass' if passed else 'FAIL'
      print(f'{verdict}  {ratio:6.3f}  limit {limit:5.2f}  {what}', flush=True)
  return rows


def _case(env: Any, **changes: Any) -> cases.Case:
  settings = {'replay_capacity': 20_000, **changes}
  return cases.Case(from_preset('crossq_wn', task=env.name, **settings), env)


def _overhead(env: Any, repeats: int) -> Any:
  """A chunk at UTD 10, compared with its updates alone."""
  case = _case(env, utd=10)
  parts = case.split(repeats)
  updates = parts['critic'] + parts['actor']
  yield 'a chunk at UTD 10 / its bare updates', parts['whole'] / updates, 1.15


def _delay(env: Any, repeats: int) -> Any:
  """A delayed actor update costs nothing where it is not due."""
  delayed, always = (_case(env, utd=6, policy_delay=d) for d in (3, 1))
  yield (
    'policy delay 3 / policy delay 1',
    _ratio(delayed, always, repeats),
    0.75,
  )


def _capacity(env: Any, repeats: int) -> Any:
  """The time does not depend on the size of the replay."""
  small, large = (
    _case(env, utd=1, replay_capacity=c) for c in (10_000, 1_000_000)
  )
  yield (
    'replay of 1,000,000 / of 10,000 env steps',
    _ratio(large, small, repeats),
    1.05,
  )


def _seeds(env: Any, repeats: int) -> Any:
  """Seeds in one program, compared with single runs in sequence."""
  one, eight = (
    _case(env, utd=10, critic_width=256, num_seeds=s) for s in (1, 8)
  )
  yield '8 seeds / 8 single runs', _ratio(eight, one, repeats) / 8, 0.5


def _doubling(env: Any, repeats: int) -> Any:
  """The time grows at most in proportion to the seeds."""
  counts = (1, 2, 4, 8, 16, 32)
  all_cases = [_case(env, utd=4, critic_width=128, num_seeds=s) for s in counts]
  for fewer, more in itertools.pairwise(cases.measure(all_cases, repeats)):
    what = f'{more["num_seeds"]} seeds / {fewer["num_seeds"]} seeds'
    yield what, more['ms_per_iteration'] / fewer['ms_per_iteration'], 2.0


def _ratio(a: cases.Case, b: cases.Case, repeats: int) -> float:
  """The median time of one case divided by that of another."""
  times = timing.interleaved({'a': a.run, 'b': b.run}, repeats)
  return times['a'].median / a.chunk / (times['b'].median / b.chunk)
