"""Configuration: one frozen dataclass; a preset is a diff of its defaults.

`fields.py` declares the settings one by one. Here is what follows from them,
which of them contradict each other, and how a configuration is read.
"""

import dataclasses
import itertools
import json
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mjx_crossq import counting, fields, parsing
from mjx_crossq.errors import ConfigError as ConfigError
from mjx_crossq.fields import MAX_ROWS, Fields
from mjx_crossq.parsing import one_of as one_of
from mjx_crossq.presets import PRESETS as PRESETS
from mjx_crossq.presets import QUICKSTART_ON_ACCELERATOR

MAX_VARIANTS = 200
"""Variants of one program; each has files that stay open."""

_GROUPS = 16  # of many environments, see `Config.groups`
_MAX_NAME = 200  # of a variant, which is the name of a folder


@dataclasses.dataclass(frozen=True)
class Config(Fields):
  """Everything that decides the numbers of a run; the fields are in `Fields`.

  Raises:
    ConfigError: a value is refused by itself or beside the others; the message
      says how to correct it.
  """

  def __post_init__(self):
    """Checks every field by itself and the fields with each other."""
    for name in FIELDS:
      value = parsing.typed(name, getattr(self, name), TYPES[name])
      if name == 'vary':
        value = _one_way(value)
      fields.check(name, value, FIELDS[name].metadata)
      object.__setattr__(self, name, value)
    _check_together(self)
    _check_resets(self)
    counting.check(self)
    if self.vary or self.pbt_every:
      _check_vary(self)

  @property
  def varied(self) -> dict[str, tuple[float, ...]]:
    """The values of each field that varies."""
    return parsing.number_lists(self.vary, VARYING)

  @property
  def combinations(self) -> list[tuple[str, dict[str, float]]]:
    """Name and values of each variant; one without either if nothing varies.

    A name is such as `actor_lr=0.0001+gamma=0.97`. Several fields give the
    cross product, the last one fastest.
    """
    found = self.varied
    rows = [
      dict(zip(found, numbers, strict=True))
      for numbers in itertools.product(*found.values())
    ]
    return [
      ('+'.join(f'{name}={value!r}' for name, value in row.items()), row)
      for row in rows
    ]

  @property
  def reset_iterations(self) -> tuple[int, ...]:
    """The iterations in which the env steps `reset_at` are reached."""
    steps = self.steps_per_iteration
    return tuple(sorted({-(-step // steps) - 1 for step in self.reset_at}))

  @property
  def replay_rows(self) -> int:
    """Transitions that the replay of one seed holds (whole vector steps)."""
    rows = self.replay_capacity // self.action_repeat
    return rows // self.num_envs * self.num_envs

  @property
  def steps_per_iteration(self) -> int:
    """Env steps per seed of one iteration: a decision in every environment."""
    return self.num_envs * self.action_repeat

  @property
  def groups(self) -> int:
    """Groups of environments that begin their episodes together."""
    if self.stagger < 0:
      return _GROUPS if self.num_envs >= _GROUPS else 1
    return max(1, self.stagger)

  @property
  def updates_per_iteration(self) -> int:
    """Updates per seed of an iteration that has any, after the warm-up."""
    return counting.updates(self.num_envs, self.utd)[0]

  @property
  def update_every(self) -> int:
    """Iterations to each that has updates; 1 where all have."""
    return counting.updates(self.num_envs, self.utd)[1]

  @property
  def warmup_iterations(self) -> int:
    """Iterations without learning; `warmup` rounded up to whole ones."""
    return -(-self.warmup // self.num_envs)

  @property
  def iterations(self) -> int:
    """Iterations of the whole run; `env_steps` rounded up to whole ones."""
    return -(-self.env_steps // self.steps_per_iteration)

  def updates_at(self, iteration: int) -> int:
    """Critic updates per seed after a number of iterations."""
    learning = max(0, iteration - self.warmup_iterations)
    return learning // self.update_every * self.updates_per_iteration

  def replace(self, **changes: Any) -> 'Config':
    """A copy with some fields changed; unknown names are refused."""
    for name in changes:
      one_of('field', name, FIELDS)
    return dataclasses.replace(self, **changes)

  def to_dict(self) -> dict[str, Any]:
    """The fields as plain JSON types, in the order of the class."""
    return dataclasses.asdict(self)

  @classmethod
  def from_dict(cls, values: Mapping[str, Any]) -> 'Config':
    """The inverse of `to_dict`; unknown names and wrong types are refused."""
    return cls(**{name: _typed(name, value) for name, value in values.items()})


FIELDS: dict[str, dataclasses.Field] = {
  field.name: field for field in dataclasses.fields(Config)
}
"""The fields by name; `metadata` says what `fields.field` was told."""

TYPES: dict[str, Any] = typing.get_type_hints(Config)

VARYING = tuple(
  name for name, field in FIELDS.items() if field.metadata['varies']
)
"""What may vary: numbers that an update (or a new agent) takes as they are."""

# May differ between a run and its continuation: they decide when the host
# looks at the run, not what it computes.
SCHEDULE_FIELDS = (
  'env_steps',
  'log_every',
  'eval_every',
  'eval_episodes',
  'checkpoint_every',
  'diagnostics_every',
  'stop_at_return',
  'stop_when',
  'stop_if_unfaithful',
  'keep_best',
)


def from_preset(
  preset: str = 'crossq_wn', *, accelerator: bool = False, **changes: Any
) -> Config:
  """A preset with changes.

  Args:
    preset: a name in `PRESETS`.
    accelerator: whether the run is on a GPU or TPU; only `quickstart` asks.
    **changes: fields of `Config`; unknown names are refused.

  Returns:
    The configuration.

  Raises:
    ConfigError: for an unknown preset or field, or a value out of range.
  """
  one_of('preset', preset, PRESETS)
  settings = PRESETS[preset]
  if preset == 'quickstart' and accelerator:
    settings = QUICKSTART_ON_ACCELERATOR
  return Config(preset=preset).replace(**{**settings, **changes})


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
  """Parses `key=value` strings into typed changes of a `Config`.

  Args:
    assignments: for instance `['critic_width=256', 'target_network=false']`.

  Returns:
    Field names to values of the fields' types.

  Raises:
    ConfigError: for an unknown key (names the nearest) or a wrong type.
  """
  changes = {}
  for assignment in assignments:
    name, equals, text = assignment.partition('=')
    if not equals:
      raise ConfigError(f'--set {assignment}: write it as key=value')
    name = name.strip()
    one_of('field', name, FIELDS)
    if name == 'preset':
      raise ConfigError(f'--set {assignment}: choose it by --preset')
    changes[name] = _typed(name, text.strip())
  return changes


def load(path: Any) -> tuple[Config, dict[str, Any]]:
  """Reads a `config.json` as `runner.train` writes it.

  Returns:
    The configuration, and the record of versions that stands beside it.

  Raises:
    ConfigError: the file cannot be read, or is not such a file.
  """
  try:
    with open(path, encoding='utf-8') as file:
      record = json.load(file)
    if not isinstance(record, dict) or not isinstance(record['config'], dict):
      raise ValueError('no record of a configuration')
    versions = record.get('versions')
    versions = versions if isinstance(versions, dict) else {}
    saved = Config.from_dict(record['config'])
    if 'stagger' not in record['config'] and saved.groups > 1:
      saved = saved.replace(stagger=0)  # it was trained before there were any
    return saved, versions
  except ConfigError as error:
    raise ConfigError(f'{path}: {error}') from None
  except (OSError, ValueError, KeyError, RecursionError) as error:
    raise ConfigError(
      f'{path} is damaged or no file of ours ({error}); put back a copy'
    ) from None


def _typed(name: str, value: Any) -> Any:
  """`value` (text, or a JSON value) as the type of field `name`."""
  one_of('field', name, FIELDS)
  return parsing.typed(name, value, TYPES[name])


def bounds(name: str) -> tuple[float, float]:
  """The smallest and the largest value of a field of numbers."""
  metadata = FIELDS[name].metadata
  return metadata['least'], metadata['most']


def choices(name: str) -> tuple[str, ...]:
  """The values that a field of text may have; () for any."""
  return FIELDS[name].metadata['choices']


# ------------------------------------------------- fields beside each other


def _check_together(c: Config) -> None:
  if c.log_std_min >= c.log_std_max:
    raise ConfigError('log_std_min must be below log_std_max')
  if c.soft_l2 and c.weight_norm:
    raise ConfigError(
      f'soft_l2={c.soft_l2} is in place of weight normalisation; set '
      'weight_norm=false with it, or soft_l2=0'
    )
  for name, needed in (
    ('weight_norm_outputs', 'weight_norm'),
    ('weight_norm_scales', 'weight_norm'),
    ('bound_returns', 'normalize_rewards'),
  ):
    if getattr(c, name) and not getattr(c, needed):
      raise ConfigError(f'{name}=true needs {needed}=true')
  if (c.critic_value == 'scalar') != (c.atoms == 1):
    raise ConfigError(
      f'atoms={c.atoms} does not go with critic_value='
      f'{c.critic_value!r}: a scalar critic has atoms=1, the others '
      'more (101 in XQC, 100 in BRO)'
    )
  if c.optimism and (
    'batch' in c.normalization or c.critic_value == 'categorical'
  ):
    raise ConfigError(
      'optimism=true needs normalization=none or layer, and a scalar or '
      'quantile critic'
    )
  if c.stagger > c.num_envs:
    raise ConfigError(
      f'stagger={c.stagger} groups cannot be made of num_envs={c.num_envs} '
      'environments; set it to at most that, or to 0 for no groups'
    )
  if c.init_parts != 'policy' and c.normalize_rewards:
    raise ConfigError(
      'init_parts=policy_critic: not with normalize_rewards, as a critic is in '
      'units of the rewards of its own run; take init_parts=policy'
    )
  if c.keep_best and c.vary:
    raise ConfigError(
      'keep_best keeps one policy of all seeds, and vary makes several runs; '
      'leave one of them out'
    )
  if c.replay_rows < c.num_envs:
    raise ConfigError(
      f'replay_capacity={c.replay_capacity} holds no transition of each '
      f'of num_envs={c.num_envs} environments; raise it to at least '
      f'{c.num_envs * c.action_repeat}'
    )


def _check_resets(c: Config) -> None:
  if c.reset_every and c.reset_at:
    raise ConfigError(
      'reset_every and reset_at are two schedules; set reset_every=0 or '
      'reset_at= (nothing)'
    )
  if 0 < c.reset_every < c.updates_per_iteration:
    raise ConfigError(
      f'reset_every={c.reset_every} is less than the '
      f'{c.updates_per_iteration} updates of one iteration (num_envs x '
      'utd); raise it, or set 0 for no resets'
    )


def _one_way(vary: Sequence[str]) -> tuple[str, ...]:
  """`vary` written one way, so that 1e-4 and 0.0001 are the same run."""
  found = parsing.number_lists(vary, VARYING)
  return tuple(
    f'{name}={",".join(map(repr, values))}' for name, values in found.items()
  )


def _check_vary(c: Config) -> None:
  """Refuses variants that could not be runs, and PBT without variants."""
  found = c.varied
  if 'tau' in found and not c.target_network:
    raise ConfigError(
      'tau cannot vary without a target network; set target_network=true'
    )
  count = math.prod(map(len, found.values()))
  if count > MAX_VARIANTS:
    raise ConfigError(
      f'vary makes {count:,} variants; at most {MAX_VARIANTS} are possible'
    )
  variants = c.combinations
  longest = max((name for name, _ in variants), key=len)
  if len(longest) > _MAX_NAME:
    raise ConfigError(
      f'vary has too many digits for the name of a folder: {longest}'
    )
  rows = len(variants) * c.num_seeds
  if rows > MAX_ROWS:
    raise ConfigError(
      f'vary and num_seeds={c.num_seeds} make {rows:,} rows; at most '
      f'{MAX_ROWS:,} are possible'
    )
  for _, values in variants:
    c.replace(vary=(), pbt_every=0, **values)
  if not c.pbt_every:
    return
  if not found:
    raise ConfigError(
      f'pbt_every={c.pbt_every} needs --vary: the settings that it is to '
      'change, with their first values'
    )
  if rows < 4:
    raise ConfigError(
      f'pbt_every={c.pbt_every} needs 4 rows or more, and there are {rows}; '
      'raise num_seeds or vary more values'
    )
  if 'init_alpha' in found:
    raise ConfigError(
      'init_alpha cannot vary with pbt_every: it says how an agent begins only'
    )
