"""Configuration: one frozen dataclass; a preset is a diff of its defaults.

The defaults are `crossq_wn`, the method of *Scaling CrossQ with Weight
Normalization* (arXiv 2506.03758), with the hyper-parameters of its long form
(arXiv 2502.07523 v2, Table 1) where the paper prints none.
"""

import dataclasses
import json
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from mjx_crossq import limits, parsing, vary
from mjx_crossq.parsing import ConfigError as ConfigError
from mjx_crossq.parsing import one_of as one_of
from mjx_crossq.presets import PRESETS as PRESETS
from mjx_crossq.presets import QUICKSTART_ON_ACCELERATOR


def _words(name: str) -> str:
  return ', '.join(limits.CHOICES[name])


def _field(default: Any, doc: str) -> Any:
  return dataclasses.field(default=default, metadata={'doc': doc})


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything that decides the numbers of a run.

  Units: an *env step* is one control step as DMC counts it; a *decision* is
  one policy query and lasts `action_repeat` env steps; an *update* is one
  critic gradient step. Every field's meaning is in its `doc` metadata.
  """

  # The run.
  task: str = _field('cartpole-swingup', 'task name; see --list_tasks')
  preset: str = _field('crossq_wn', 'preset that these settings started from')
  physics: str = _field('mjx', f'physics backend: one of {_words("physics")}')
  seed: int = _field(0, 'seed of the first of the seeds')
  num_seeds: int = _field(1, 'seeds trained in one program; seed, seed+1, ...')
  num_envs: int = _field(1, 'environments per seed')
  env_steps: int = _field(1_000_000, 'budget per seed, in env steps')
  action_repeat: int = _field(2, 'env steps per decision; rewards are summed')
  utd: int = _field(10, 'updates per decision and per seed')
  log_every: int = _field(5_000, 'env steps between log points')
  eval_every: int = _field(25_000, 'env steps between evaluations; 0: the end')
  eval_episodes: int = _field(10, 'episodes per evaluation, physics and seed')
  checkpoint_every: int = _field(
    100_000, 'env steps between checkpoints; 0: only at the end'
  )
  diagnostics_every: int = _field(0, 'env steps between diagnoses; 0: none')
  vary: tuple[str, ...] = _field(
    (), 'field=value,... for each field that varies over rows of one program'
  )
  pbt_every: int = _field(
    0, 'env steps between steps of population based training; 0: none'
  )

  # Data.
  replay_capacity: int = _field(
    1_000_000, 'replay per seed in env steps (one row holds action_repeat)'
  )
  batch_size: int = _field(256, 'transitions per update')
  warmup: int = _field(5_000, 'uniform random decisions before learning')

  # Networks: Dense -> ReLU -> normalisation, the input normalised first.
  critic_width: int = _field(512, 'units of a hidden layer of the critic')
  critic_layers: int = _field(
    2, 'hidden layers of the critic (residual: blocks of 2)'
  )
  actor_width: int = _field(256, 'units of a hidden layer of the actor')
  actor_layers: int = _field(2, 'hidden layers of the actor (likewise)')
  block: str = _field(
    'relu_norm',
    f'order of a hidden layer: one of {_words("block")}; norm_relu has no bias',
  )
  num_critics: int = _field(2, 'critics in the ensemble')
  critic_reduction: str = _field(
    'min', f'value of the ensemble: one of {_words("critic_reduction")}'
  )
  critic_value: str = _field(
    'scalar', f'output of a critic: one of {_words("critic_value")}'
  )
  atoms: int = _field(1, 'atoms of a categorical, or quantiles; 1 of a scalar')
  value_limit: float = _field(
    5.0, 'the atoms of a categorical critic are in [-limit, limit]'
  )
  initializer: str = _field('orthogonal', f'one of {_words("initializer")}')
  log_std_bound: str = _field(
    'clip', f'how the log std is bounded: one of {_words("log_std_bound")}'
  )
  log_std_min: float = _field(-10.0, 'lower clip of the log std')
  log_std_max: float = _field(2.0, 'upper clip of the log std')

  matmul_precision: str = _field(
    'tf32',
    f'matrix products of the networks: one of {_words("matmul_precision")}; '
    'tf32 where the device has it, else float32',
  )

  # Normalisation.
  normalization: str = _field('batch', f'one of {_words("normalization")}')
  bn_momentum: float = _field(0.99, 'decay of the running statistics')
  bn_eps: float = _field(1e-3, 'added to the variance')
  renorm_warmup: int = _field(
    100_000, 'train-mode calls of plain batch norm before renorm starts'
  )
  renorm_r_max: float = _field(3.0, 'clip of the renorm scale')
  renorm_d_max: float = _field(5.0, 'clip of the renorm shift')
  weight_norm: bool = _field(
    True, 'project each hidden unit to norm 1 after every optimiser step'
  )
  weight_norm_outputs: bool = _field(
    False, 'project the kernels of output layers too (not their biases)'
  )
  soft_l2: float = _field(
    0.0,
    'in place of weight_norm: the losses get soft_l2/2 times the sum of '
    'squares of the hidden layers, which AdamW then does not decay',
  )

  # Learning.
  critic_lr: float = _field(3e-4, 'learning rate of the critic')
  actor_lr: float = _field(3e-4, 'learning rate of the actor')
  alpha_lr: float = _field(1e-4, 'learning rate of the log temperature')
  lr_decay_steps: int = _field(
    0, 'env steps over which all learning rates fall linearly; 0: constant'
  )
  lr_final: float = _field(0.1, 'what they fall to, as a share of the first')
  adam_b1: float = _field(0.9, 'first Adam decay of actor and critic')
  adam_b2: float = _field(0.999, 'second Adam decay of actor and critic')
  alpha_b1: float = _field(0.9, 'first Adam decay of the temperature')
  weight_decay: float = _field(
    1e-2, 'AdamW decay of every parameter that weight_norm leaves free'
  )
  gamma: float = _field(0.99, 'discount per decision')
  tau: float = _field(0.005, 'Polyak rate of the target network')
  normalize_rewards: bool = _field(
    False, 'learn from rewards over the running std of discounted returns'
  )
  target_network: bool = _field(True, 'keep a Polyak-averaged target critic')
  joint_pass: bool = _field(
    True,
    "critic in one pass over [s; s'], with common batch statistics; "
    'otherwise one pass for each',
  )
  policy_delay: int = _field(3, 'updates per actor and temperature update')
  optimism: bool = _field(False, 'a second, optimistic actor collects data')
  explore_std: float = _field(0.75, "its std as a share of the policy's")
  kl_target: float = _field(0.05, 'its KL to the policy per action dimension')
  reset_every: int = _field(
    0, 'updates between full resets of the agent, the replay kept; 0: none'
  )
  reset_at: tuple[int, ...] = _field(
    (), 'env steps after which the agent is reset, such as 15001,50001'
  )
  init_alpha: float = _field(1.0, 'initial temperature')
  target_entropy: float = _field(
    -0.5, 'entropy target in nats per action dimension: -0.5 means -|A|/2'
  )

  def __post_init__(self):
    """Checks every field by itself and the fields with each other."""
    if self.vary:
      object.__setattr__(self, 'vary', vary.canonical(self.vary))
    limits.check(self)

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
  def updates_per_iteration(self) -> int:
    """Updates per seed of one iteration after the warm-up."""
    return self.num_envs * self.utd

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
    return learning * self.updates_per_iteration

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

# May differ between a run and its continuation: they decide when the host
# looks at the run, not what it computes.
SCHEDULE_FIELDS = (
  'env_steps',
  'log_every',
  'eval_every',
  'eval_episodes',
  'checkpoint_every',
  'diagnostics_every',
)


def from_preset(
  preset: str = 'crossq_wn', accelerator: bool = False, **changes: Any
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
    return Config.from_dict(record['config']), versions
  except ConfigError as error:
    raise ConfigError(f'{path}: {error}') from None
  except (OSError, ValueError, KeyError, RecursionError) as error:
    raise ConfigError(
      f'{path} is damaged or no file of ours ({error}); put back a copy'
    ) from None


def _typed(name: str, value: Any) -> Any:
  """`value` (text, or a JSON value) as the type of field `name`."""
  one_of('field', name, FIELDS)
  return parsing.typed(name, value, typing.get_type_hints(Config)[name])
