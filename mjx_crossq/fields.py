"""The fields of the configuration, each with everything that is known about it.

The defaults are `crossq_wn`, the method of *Scaling CrossQ with Weight
Normalization* (arXiv 2506.03758), with the hyper-parameters of its long form
(arXiv 2502.07523 v2, Table 1) where the paper prints none.
"""

import dataclasses
import functools
import math
import struct
from collections.abc import Mapping
from typing import Any

from mjx_crossq.counting import LARGEST
from mjx_crossq.errors import ConfigError
from mjx_crossq.parsing import one_of
from mjx_crossq.presets import PRESETS

LARGEST_STEP = 2**53
"""The largest env step: float64, as files of results are read, holds it."""

MAX_ROWS = 10_000
"""Rows of one program: seeds times variants."""


def field(
  default: Any,
  doc: str,
  *,
  least: float = -math.inf,
  most: float = LARGEST,
  above: float = -math.inf,
  below: float = math.inf,
  choices: tuple[str, ...] = (),
  flag: bool = False,
  varies: bool = False,
) -> Any:
  """A field of `Config`; what is said here is its `metadata`.

  The bounds hold for a number, or for each number of a tuple.

  Args:
    default: its value in the preset `crossq_wn`.
    doc: what it means, for people.
    least: the smallest value.
    most: the largest value.
    above: all values are larger than it.
    below: all values are smaller than it.
    choices: the values of a field of text; () if it may have any.
    flag: whether `launch.train` has a flag of this name.
    varies: whether it may differ between the rows of one program.
  """
  metadata = {
    'doc': doc,
    'least': least,
    'most': most,
    'above': above,
    'below': below,
    'choices': choices,
    'flag': flag,
    'varies': varies,
  }
  return dataclasses.field(default=default, metadata=metadata)


_flag = functools.partial(field, flag=True)
_varied = functools.partial(field, varies=True)


def check(name: str, value: Any, metadata: Mapping[str, Any]) -> None:
  """Refuses a value that is out of a field's bounds or none of its choices.

  Args:
    name: of the field.
    value: of the field's type.
    metadata: of the field.

  Raises:
    ConfigError: with the bound.
  """
  if metadata['choices']:
    one_of(name, value, metadata['choices'])
  parts = value if isinstance(value, tuple) else (value,)
  each = ' each' if isinstance(value, tuple) else ''
  for part in parts:
    if isinstance(part, bool | str):
      continue
    for holds, words, bound in (
      (part >= metadata['least'], 'at least', metadata['least']),
      (part <= metadata['most'], 'at most', metadata['most']),
      (part > metadata['above'], 'above', metadata['above']),
      (_float32(part) < metadata['below'], 'below', metadata['below']),
    ):
      if not holds:
        raise ConfigError(f'{name}={value} must be {words} {bound:,}{each}')


def _float32(number: float) -> float:
  """A number as the device has it: .99999999 is 1 there."""
  if abs(number) > 1:
    return number
  (rounded,) = struct.unpack('f', struct.pack('f', number))
  return rounded


@dataclasses.dataclass(frozen=True)
class Fields:
  """The fields of `Config`: each with all that is known about it.

  Units: an *env step* is one control step as DMC counts it; a *decision* is
  one policy query and lasts `action_repeat` env steps; an *update* is one
  critic gradient step.
  """

  # The run.
  task: str = _flag('cartpole-swingup', 'task; see --list_tasks')
  preset: str = _flag(
    'crossq_wn', f'preset that the settings start from: {", ".join(PRESETS)}'
  )
  physics: str = _flag('mjx', 'physics backend', choices=('mjx', 'warp'))
  seed: int = _flag(0, 'the first of the seeds', least=0)
  num_seeds: int = _flag(
    1, 'seeds trained in one program', least=1, most=MAX_ROWS
  )
  num_envs: int = _flag(1, 'environments per seed', least=1)
  stagger: int = _flag(
    -1,
    'groups of environments, whose episodes begin at times spread over an '
    'episode; 0: all together; -1: 16 where num_envs is at least that',
    least=-1,
  )
  env_steps: int = _flag(
    1_000_000, 'budget per seed in env steps', least=1, most=LARGEST_STEP
  )
  action_repeat: int = _flag(
    2, 'env steps per decision; rewards are summed', least=1
  )
  utd: int | float = _flag(
    10,
    'updates per decision and per seed; a fraction where num_envs x utd is '
    'whole, or one update every so many iterations',
    least=1e-9,
  )
  log_every: int = _flag(5_000, 'env steps between log points', least=1)
  eval_every: int = _flag(
    25_000, 'env steps between evaluations; 0: only at the end', least=0
  )
  eval_episodes: int = _flag(
    10, 'episodes per evaluation, physics and seed', least=1
  )
  checkpoint_every: int = _flag(
    100_000, 'env steps between checkpoints; 0: only at the end', least=0
  )
  stop_at_return: float = _flag(
    0.0,
    'mean return of an evaluation at which the run ends; 0: none',
    least=-1e9,
    most=1e9,
  )
  stop_when: str = _flag(
    'all', 'how many seeds must reach stop_at_return', choices=('all', 'any')
  )
  stop_if_unfaithful: bool = _flag(
    False,
    'end the run with an error at the first log point at which the physics '
    'dropped contacts or its solver reached its cap',
  )
  keep_best: bool = _flag(
    False, 'checkpoints keep the best evaluated policy beside the newest'
  )
  diagnostics_every: int = _flag(
    0, 'env steps between diagnoses; 0: none', least=0
  )
  vary: tuple[str, ...] = _flag(
    (),
    'field=value,value,... for a field that takes several values in one '
    'program',
  )
  pbt_every: int = _flag(
    0,
    'env steps between steps of population based training on the fields that '
    'vary; 0: none',
    least=0,
  )

  # What the agents begin with.
  init_from: str = field(
    '', 'a run, or RUN@STEP, whose networks are taken; --init_from sets it'
  )
  init_parts: str = _flag(
    'policy',
    'the networks that init_from takes',
    choices=('policy', 'policy_critic'),
  )

  # Data.
  replay_capacity: int = field(
    1_000_000,
    'replay per seed in env steps (one row holds action_repeat)',
    least=1,
  )
  init_transitions: int = field(
    0, 'transitions that the replay begins with; --init_replay sets it', least=0
  )
  batch_size: int = field(256, 'transitions per update', least=1)
  warmup: int = field(
    5_000, 'uniform random decisions before learning', least=1
  )

  # Networks: Dense -> ReLU -> normalisation, the input normalised first.
  critic_width: int = field(
    512, 'units of a hidden layer of the critic', least=1
  )
  critic_layers: int = field(
    2, 'hidden layers of the critic, or blocks of two', least=1, most=100
  )
  actor_width: int = field(256, 'units of a hidden layer of the actor', least=1)
  actor_layers: int = field(
    2, 'hidden layers of the actor, or blocks of two', least=1, most=100
  )
  block: str = field(
    'relu_norm',
    'order of a hidden layer; norm_relu and inverted have no bias',
    choices=('relu_norm', 'norm_relu', 'residual', 'inverted'),
  )
  num_critics: int = field(2, 'critics in the ensemble', least=1, most=1_000)
  critic_reduction: str = field(
    'min', 'value of the ensemble', choices=('min', 'mean')
  )
  critic_value: str = field(
    'scalar',
    'output of a critic',
    choices=('scalar', 'categorical', 'quantile'),
  )
  atoms: int = field(
    1, 'atoms of a categorical, or quantiles; 1 of a scalar', least=1
  )
  value_limit: float = field(
    5.0, 'the atoms of a categorical critic are in [-limit, limit]', least=1e-9
  )
  initializer: str = field(
    'orthogonal',
    'initialiser of the kernels',
    choices=('orthogonal', 'lecun_normal'),
  )
  log_std_bound: str = field(
    'clip', 'how the log std is bounded', choices=('clip', 'tanh')
  )
  # Where float32 holds both exp(2 x) and exp(-2 x).
  log_std_min: float = field(
    -10.0, 'lower bound of the log std', least=-40, most=40
  )
  log_std_max: float = field(
    2.0, 'upper bound of the log std', least=-40, most=40
  )
  matmul_precision: str = _flag(
    'tf32',
    'matrix products of the networks; tf32 where the device has it, else '
    'float32',
    choices=('highest', 'tf32', 'bf16'),
  )

  # Normalisation.
  normalization: str = field(
    'batch',
    'normalisation in a hidden layer',
    choices=('none', 'layer', 'batch', 'batch_renorm'),
  )
  bn_momentum: float = field(
    0.99, 'decay of the running statistics', least=0, most=1
  )
  bn_eps: float = field(1e-3, 'added to the variance', above=0)
  renorm_warmup: int = field(
    100_000,
    'train-mode calls of plain batch norm before renorm starts',
    least=0,
  )
  renorm_r_max: float = field(3.0, 'clip of the renorm scale', least=1)
  renorm_d_max: float = field(5.0, 'clip of the renorm shift', least=0)
  weight_norm: bool = field(
    True, 'project each hidden unit to norm 1 after every optimiser step'
  )
  weight_norm_outputs: bool = field(
    False, 'project the kernels of output layers too (not their biases)'
  )
  weight_norm_scales: bool = field(
    False,
    'project scale and bias of each normalisation too, jointly to the norm of '
    'a scale of ones',
  )
  soft_l2: float = field(
    0.0,
    'in place of weight_norm: the losses get soft_l2/2 times the sum of '
    'squares of the hidden layers, which AdamW then does not decay',
    least=0,
  )

  # Learning. Adam divides by 1 - b.
  critic_lr: float = _varied(3e-4, 'learning rate of the critic', least=0)
  actor_lr: float = _varied(3e-4, 'learning rate of the actor', least=0)
  alpha_lr: float = _varied(
    1e-4, 'learning rate of the log temperature', least=0
  )
  lr_decay_steps: int = field(
    0,
    'env steps over which all learning rates fall; 0: constant',
    least=0,
    most=LARGEST_STEP,
  )
  lr_final: float = field(
    0.1, 'what they fall to, as a share of the first', least=0
  )
  lr_schedule: str = field(
    'linear', 'how they fall', choices=('linear', 'cosine')
  )
  lr_own_updates: bool = field(
    False,
    "an optimiser's rate falls with its own updates, so that delayed ones do "
    'not reach the last value; otherwise all reach it together',
  )
  adam_b1: float = field(
    0.9, 'first Adam decay of actor and critic', least=0, below=1
  )
  adam_b2: float = field(
    0.999, 'second Adam decay of actor and critic', least=0, below=1
  )
  alpha_b1: float = field(
    0.9, 'first Adam decay of the temperature', least=0, below=1
  )
  weight_decay: float = _varied(
    1e-2, 'AdamW decay of every parameter that weight_norm leaves free', least=0
  )
  gamma: float = _varied(0.99, 'discount per decision', least=0, most=1)
  tau: float = _varied(
    0.005, 'Polyak rate of the target network', least=0, most=1
  )
  normalize_rewards: bool = field(
    False, 'learn from rewards over the running std of discounted returns'
  )
  bound_returns: bool = field(
    False,
    'with normalize_rewards: divide them by at least the largest return seen '
    'over value_limit',
  )
  target_network: bool = field(True, 'keep a Polyak-averaged target critic')
  joint_pass: bool = field(
    True,
    "critic in one pass over [s; s'], with common batch statistics; "
    'otherwise one pass for each',
  )
  actor_joint_pass: bool = field(
    False, "actor in one pass over [s; s'], with common batch statistics"
  )
  policy_delay: int = field(
    3, 'updates per actor and temperature update', least=1, most=10_000
  )
  noise_repeat: int = field(
    1,
    'longest run of decisions with one exploration noise; a run of k has a '
    'probability that falls as 1/k^2',
    least=1,
    most=1_000,
  )
  optimism: bool = field(False, 'a second, optimistic actor collects data')
  explore_std: float = field(
    0.75, "its std as a share of the policy's", least=0
  )
  kl_target: float = field(
    0.05, 'its KL to the policy per action dimension', least=0
  )
  reset_every: int = field(
    0,
    'updates between full resets of the agent, the replay kept; 0: none',
    least=0,
  )
  reset_at: tuple[int, ...] = field(
    (), 'env steps after which the agent is reset, such as 15001,50001', least=1
  )
  init_alpha: float = _varied(0.01, 'initial temperature', least=1e-9)
  target_entropy: float = _varied(
    -0.5,
    'entropy target in nats per action dimension: -0.5 means -|A|/2',
    least=-1_000,
    most=1_000,
  )
