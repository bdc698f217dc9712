"""The DeepMind Control Suite in MJX, by name.

`envs.load('cheetah-run')` gives a task that mirrors stock dm_control. Names
are `domain-task` with the suite's own spelling. Importing this package is
cheap: `load` imports the domain's module, and with it JAX and MuJoCo.
"""

import difflib
import functools
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if __name__ != 'mjx_crossq.envs':
  # Imported under another name, the modules would exist twice, each with its
  # own registry of tasks.
  raise ImportError('import it as mjx_crossq.envs')

from mjx_crossq.envs import forks, settings

if TYPE_CHECKING:
  from mjx_crossq.envs.base import Env

__all__ = ['ALL_TASKS', 'PAPER_TASKS', 'load', 'register']

_SUITE = {
  'acrobot': ('swingup', 'swingup_sparse'),
  'ball_in_cup': ('catch',),
  'cartpole': (
    'balance',
    'balance_sparse',
    'swingup',
    'swingup_sparse',
    'two_poles',
    'three_poles',
  ),
  'cheetah': ('run',),
  'dog': ('stand', 'walk', 'trot', 'run', 'fetch'),
  'finger': ('spin', 'turn_easy', 'turn_hard'),
  'fish': ('upright', 'swim'),
  'hopper': ('stand', 'hop'),
  'humanoid': ('stand', 'walk', 'run', 'run_pure_state'),
  'humanoid_CMU': ('stand', 'walk', 'run'),
  'lqr': ('lqr_2_1', 'lqr_6_2'),
  'manipulator': ('bring_ball', 'bring_peg', 'insert_ball', 'insert_peg'),
  'pendulum': ('swingup',),
  'point_mass': ('easy', 'hard'),
  'quadruped': ('walk', 'run', 'escape', 'fetch'),
  'reacher': ('easy', 'hard'),
  'stacker': ('stack_2', 'stack_4'),
  'swimmer': ('swimmer6', 'swimmer15'),
  'walker': ('stand', 'walk', 'run'),
}

# The 15 tasks of the paper, in its order.
_PAPER = (
  'acrobot-swingup',
  'cheetah-run',
  'dog-stand',
  'dog-walk',
  'dog-trot',
  'dog-run',
  'finger-turn_hard',
  'fish-swim',
  'hopper-hop',
  'humanoid-stand',
  'humanoid-walk',
  'humanoid-run',
  'pendulum-swingup',
  'quadruped-run',
  'walker-run',
)


def _load_suite(domain: str, task: str) -> 'Env':
  """Builds a task of the suite from the module that has its domain's name."""
  return importlib.import_module(f'{__name__}.{domain}').make(task)


_factories: dict[str, Callable[[], 'Env']] = {
  f'{domain}-{task}': functools.partial(_load_suite, domain, task)
  for domain, tasks in _SUITE.items()
  for task in tasks
}

_STOCK = frozenset(_factories)

ALL_TASKS: tuple[str, ...] = tuple(_factories)
"""Names of all registered tasks."""

PAPER_TASKS: tuple[str, ...] = tuple(t for t in _PAPER if t in _factories)
"""Those of the paper's 15 tasks that are registered, in the paper's order."""


def _adapters() -> Any:
  """The module that takes environments of others; it imports JAX."""
  return importlib.import_module(f'{__name__}.adapters')


def load(
  name: str, allow_unfaithful: bool = False, physics: str = 'mjx'
) -> 'Env':
  """Builds the environment of a registered task.

  Args:
    name: such as 'cheetah-run'; see `ALL_TASKS`. With a colon it is another
      project's, see `envs.adapters`.
    allow_unfaithful: whether a task may differ from stock by more than rounding
      does.
    physics: 'mjx', which runs wherever JAX does, or 'warp', for NVIDIA GPUs
      (and, slowly, CPUs), which needs the extra of that name.

  Returns:
    A new environment.

  Raises:
    ValueError: there is no such task, or it is not faithful, or it does not
      have that physics, or it is not what training relies on; the message names
      the nearest one, the difference and the flag, or what to do. Or a setting
      of jax is refused.
    RuntimeError: JAX would hang in this process; see `forks`.
  """
  if name not in _factories and ':' not in name:
    near = difflib.get_close_matches(str(name), _factories, n=1, cutoff=0)
    raise ValueError(f'No task {name!r}. Did you mean {near[0]!r}?')
  forks.check()
  settings.check(settings.OF_ENVIRONMENTS)
  if name not in _factories:
    env = _adapters().load(name)
  else:
    env = _factories[name]()
    if name not in _STOCK:
      env = _adapters().adapt(name, env)
  if physics != 'mjx':
    env.set_physics(physics)
  unfaithful = getattr(env, 'unfaithful', '')
  if unfaithful and not allow_unfaithful:
    raise ValueError(
      f'{name} differs from stock dm_control: {unfaithful}. To use it all the '
      'same: --allow_unfaithful, or envs.load(name, allow_unfaithful=True).'
    )
  return env


def register(name: str, factory: Callable[[], 'Env']) -> None:
  """Adds a task, so that `load(name)` and every flag accept it.

  Args:
    name: the new task's name, by convention `domain-task`.
    factory: builds the environment; called once per `load`.

  Raises:
    ValueError: the name is taken.
  """
  global ALL_TASKS
  if name in _factories:
    raise ValueError(f'Task {name!r} is registered already.')
  _factories[name] = factory
  ALL_TASKS = (*ALL_TASKS, name)
