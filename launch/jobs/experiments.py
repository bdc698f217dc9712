"""The runs of the paper's figures.

A run is a `Config`. The name of its folder follows from it (`jobs.short_name`),
so figures that need the same run share it.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

from mjx_crossq import config as config_lib
from mjx_crossq import envs
from mjx_crossq.config import Config

System = tuple[str, int]
"""Preset and UTD."""


@dataclasses.dataclass(frozen=True)
class Figure:
  """What a figure compares.

  Attributes:
    systems: in the order of the legend.
    tasks: in the order of the panels.
  """

  systems: tuple[System, ...]
  tasks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Scale:
  """A size in which the figures are made.

  Attributes:
    figures: by the paper's numbers.
    changes: fields that every run has different from its preset.
  """

  figures: dict[int, Figure]
  changes: dict[str, Any]


# These runs are made for GPUs, where Warp is faster with dog's many contacts.
WARP_DOMAINS = ('dog',)

# The paper states neither UTDs nor tasks of its figure 1. The tasks here go
# from easy to hard, and the high UTD is that of the paper's figure 3.
_FULL = Scale(
  figures={
    1: Figure(
      (
        ('sac', 1),
        ('crossq_512', 1),
        ('crossq_512', 10),
        ('crossq_wn', 1),
        ('crossq_wn', 10),
      ),
      ('cheetah-run', 'walker-run', 'hopper-hop', 'humanoid-walk', 'dog-trot'),
    ),
    2: Figure(
      tuple(('crossq_wn', utd) for utd in (1, 2, 5, 10)), envs.PAPER_TASKS
    ),
    3: Figure((('crossq_wn', 10), ('sac_resets', 32)), envs.PAPER_TASKS),
  },
  changes={'num_seeds': 10, 'diagnostics_every': 25_000},
)


def _small(tasks: tuple[str, ...], utd: int, changes: dict) -> Scale:
  """Figures at UTD 1 and one other; 2 and 3 need only runs of figure 1."""
  return Scale(
    figures={
      1: Figure(
        (
          ('sac', 1),
          ('crossq_512', 1),
          ('crossq_512', utd),
          ('crossq_wn', 1),
          ('crossq_wn', utd),
        ),
        tasks,
      ),
      2: Figure((('crossq_wn', 1), ('crossq_wn', utd)), tasks),
      3: Figure((('crossq_wn', utd),), tasks),
    },
    changes=changes,
  )


SCALES = {
  'smoke': _small(
    ('cartpole-swingup',),
    2,
    {
      'num_seeds': 2,
      'env_steps': 2_000,
      'log_every': 1_000,
      'eval_every': 1_000,
      'eval_episodes': 2,
      'checkpoint_every': 1_000,
      'diagnostics_every': 1_000,
      'replay_capacity': 2_000,
      'batch_size': 32,
      'warmup': 100,
      'critic_width': 32,
      'actor_width': 32,
    },
  ),
  'cpu': _small(
    ('cartpole-swingup', 'walker-walk'),
    8,
    {
      'num_seeds': 2,
      'env_steps': 25_000,
      'log_every': 2_500,
      'eval_every': 2_500,
      'eval_episodes': 5,
      'checkpoint_every': 5_000,
      'diagnostics_every': 2_500,
      'replay_capacity': 25_000,
      'warmup': 1_000,
      'critic_width': 256,
    },
  ),
  'full': _FULL,
}


def runs(
  figure: int,
  scale: str,
  tasks: Sequence[str] = (),
  presets: Sequence[str] = (),
  **changes: Any,
) -> list[Config]:
  """The runs of a figure, in the order of its legend and tasks.

  Args:
    figure: the paper's number.
    scale: a name in `SCALES`.
    tasks: instead of the figure's.
    presets: of the figure's systems those to keep; all if empty.
    **changes: fields of `Config`, instead of the scale's.

  Raises:
    ConfigError: a preset is not one of the figure's, or a value is out of
      range.
  """
  changes = {**SCALES[scale].changes, **changes}
  wanted = SCALES[scale].figures[figure]
  for preset in presets:
    config_lib.one_of(
      f'preset of figure {figure}', preset, dict(wanted.systems)
    )
  return [
    config_lib.from_preset(
      preset, task=task, utd=utd, physics=physics_of(task), **changes
    )
    for preset, utd in wanted.systems
    if not presets or preset in presets
    for task in tasks or wanted.tasks
  ]


def physics_of(task: str) -> str:
  """The backend in which a task of the paper is faithful to stock."""
  return 'warp' if task.split('-')[0] in WARP_DOMAINS else 'mjx'
