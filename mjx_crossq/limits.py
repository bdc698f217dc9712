"""What the fields of a `Config` may be, each by itself and with the others."""

import math
from typing import TYPE_CHECKING

from mjx_crossq import vary
from mjx_crossq.parsing import ConfigError, one_of

if TYPE_CHECKING:
  from mjx_crossq.config import Config

CHOICES = {
  'physics': ('mjx', 'warp'),
  'normalization': ('none', 'layer', 'batch', 'batch_renorm'),
  'initializer': ('orthogonal', 'lecun_normal'),
  'block': ('relu_norm', 'norm_relu', 'residual'),
  'log_std_bound': ('clip', 'tanh'),
  'critic_value': ('scalar', 'categorical', 'quantile'),
  'critic_reduction': ('min', 'mean'),
  'matmul_precision': ('highest', 'tf32', 'bf16'),
}
"""Fields that are one of some words."""

MINIMA = {
  'num_seeds': 1,
  'num_envs': 1,
  'env_steps': 1,
  'action_repeat': 1,
  'utd': 1,
  'log_every': 1,
  'eval_every': 0,
  'eval_episodes': 1,
  'checkpoint_every': 0,
  'diagnostics_every': 0,
  'pbt_every': 0,
  'replay_capacity': 1,
  'batch_size': 1,
  'warmup': 1,
  'critic_width': 1,
  'critic_layers': 1,
  'actor_width': 1,
  'actor_layers': 1,
  'num_critics': 1,
  'bn_eps': 0,
  'renorm_warmup': 0,
  'renorm_r_max': 1,
  'renorm_d_max': 0,
  'critic_lr': 0,
  'actor_lr': 0,
  'alpha_lr': 0,
  'weight_decay': 0,
  'soft_l2': 0,
  'atoms': 1,
  'value_limit': 1e-9,
  'lr_decay_steps': 0,
  'lr_final': 0,
  'explore_std': 0,
  'kl_target': 0,
  'reset_every': 0,
  'policy_delay': 1,
  'init_alpha': 1e-9,
  'seed': 0,
}

# What a counter on the device holds, and what a program is unrolled over.
MAXIMA = {
  **dict.fromkeys(
    (name for name, minimum in MINIMA.items() if isinstance(minimum, int)),
    2**31 - 1,
  ),
  'num_seeds': 10_000,
  'num_critics': 1_000,
  'critic_layers': 100,
  'actor_layers': 100,
}

SHARES = ('gamma', 'tau', 'bn_momentum', 'adam_b1', 'adam_b2')


def bounds(name: str) -> tuple[float, float]:
  """The least and the largest value of a field of numbers."""
  if name in SHARES:
    return 0.0, 1.0
  return MINIMA.get(name, -math.inf), MAXIMA.get(name, math.inf)


def check(c: 'Config') -> None:
  """Refuses what no run can have.

  Raises:
    ConfigError: with the field and its fix.
  """
  for name, minimum in MINIMA.items():
    value = getattr(c, name)
    if not value >= minimum:
      raise ConfigError(f'{name}={value} must be at least {minimum}')
  for name, maximum in MAXIMA.items():
    value = getattr(c, name)
    if value > maximum:
      raise ConfigError(f'{name}={value} must be at most {maximum:,}')
  for name in SHARES:
    value = getattr(c, name)
    if not 0 <= value <= 1:
      raise ConfigError(f'{name}={value} must be between 0 and 1')
  for name, allowed in CHOICES.items():
    one_of(name, getattr(c, name), allowed)
  if c.log_std_min >= c.log_std_max:
    raise ConfigError('log_std_min must be below log_std_max')
  if c.soft_l2 and c.weight_norm:
    raise ConfigError(
      f'soft_l2={c.soft_l2} is in place of weight normalisation; set '
      'weight_norm=false with it, or soft_l2=0'
    )
  if c.weight_norm_outputs and not c.weight_norm:
    raise ConfigError('weight_norm_outputs=true needs weight_norm=true')
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
  _check_resets(c)
  if c.vary or c.pbt_every:
    vary.check(c)
  if c.replay_rows < c.num_envs:
    raise ConfigError(
      f'replay_capacity={c.replay_capacity} holds no transition of each '
      f'of num_envs={c.num_envs} environments; raise it to at least '
      f'{c.num_envs * c.action_repeat}'
    )


def _check_resets(c: 'Config') -> None:
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
  if any(step < 1 for step in c.reset_at):
    raise ConfigError(f'reset_at={c.reset_at} must be at least 1 each')
