"""The presets: each the difference of one algorithm from `Config`'s defaults.

Where each number comes from is in docs/algorithm.md.
"""

from typing import Any

# CrossQ (ICLR 2024) as its authors released it (adityab/CrossQ), with the
# learning rate of its DMC scripts.
_CROSSQ: dict[str, Any] = {
  'action_repeat': 1,
  'utd': 1,
  'critic_width': 2048,
  'initializer': 'lecun_normal',
  'log_std_min': -20.0,
  'normalization': 'batch_renorm',
  'weight_norm': False,
  'target_network': False,
  'critic_lr': 8e-4,
  'actor_lr': 8e-4,
  'alpha_lr': 8e-4,
  'adam_b1': 0.5,
  'weight_decay': 0.0,
  'init_alpha': 1.0,
  'target_entropy': -1.0,
}

# The soft actor-critic baseline: two hidden layers, no normalisation.
_SAC: dict[str, Any] = {
  'utd': 1,
  'critic_width': 256,
  'normalization': 'none',
  'weight_norm': False,
  'alpha_lr': 3e-4,
  'weight_decay': 0.0,
  'policy_delay': 1,
  'init_alpha': 1.0,
}

# FlashSAC (arXiv 2604.04539; Holiday-Robot/FlashSAC) as it runs on DMC. The
# entropy target is that of a Gaussian with std .15.
_FLASHSAC: dict[str, Any] = {
  'action_repeat': 1,
  'utd': 1,
  'batch_size': 512,
  'warmup': 10_000,
  'critic_width': 256,
  'actor_width': 128,
  'block': 'inverted',
  'critic_value': 'categorical',
  'atoms': 101,
  'log_std_bound': 'tanh',
  'bn_eps': 1e-5,
  'weight_norm_outputs': True,
  'weight_norm_scales': True,
  'weight_decay': 0.0,
  'alpha_lr': 3e-4,
  'lr_decay_steps': 1_000_000,
  'lr_final': 0.5,
  'lr_schedule': 'cosine',
  'lr_own_updates': True,
  'tau': 0.01,
  'normalize_rewards': True,
  'bound_returns': True,
  'actor_joint_pass': True,
  'policy_delay': 2,
  'noise_repeat': 16,
  'target_entropy': -0.47818,
}

PRESETS: dict[str, dict[str, Any]] = {
  # The paper's method: the defaults above.
  'crossq_wn': {},
  # With the temperature of arXiv 2502.07523 v2, Table 1, which begins high.
  'crossq_wn_table1': {'init_alpha': 1.0},
  # The wording of arXiv 2506.03758, which mentions no target network.
  'crossq_wn_no_target': {'target_network': False},
  'crossq': _CROSSQ,
  # The CrossQ that arXiv 2502.07523 compares with.
  'crossq_512': {
    **_CROSSQ,
    'action_repeat': 2,
    'critic_width': 512,
    'adam_b1': 0.9,
  },
  'sac': _SAC,
  # SAC at a high replay ratio (ICLR 2023), as arXiv 2502.07523 plots it.
  'sac_resets': {
    **_SAC,
    'utd': 32,
    'warmup': 10_000,
    'reset_every': 2_560_000,
  },
  # The same authors' next step (ICLR 2026; danielpalenicek/xqc).
  'xqc': {
    'utd': 2,
    'critic_layers': 4,
    'actor_layers': 4,
    'block': 'norm_relu',
    'critic_value': 'categorical',
    'atoms': 101,
    'weight_norm_outputs': True,
    'weight_decay': 0.0,
    'alpha_lr': 3e-4,
    'lr_decay_steps': 1_000_000,
    'normalize_rewards': True,
  },
  # BRO (NeurIPS 2024) as naumix/BiggerRegularizedOptimistic runs it.
  'bro': {
    'action_repeat': 1,
    'batch_size': 128,
    'warmup': 2_500,
    'actor_layers': 1,
    'block': 'residual',
    'normalization': 'layer',
    'weight_norm': False,
    'critic_value': 'quantile',
    'atoms': 100,
    'critic_reduction': 'mean',
    'log_std_bound': 'tanh',
    'joint_pass': False,
    'optimism': True,
    'alpha_lr': 3e-4,
    'alpha_b1': 0.5,
    'weight_decay': 1e-4,
    'policy_delay': 1,
    'init_alpha': 1.0,
    'reset_at': (15_001, 50_001, 250_001, 500_001, 750_001),
  },
  'flashsac': _FLASHSAC,
  # Its regime of many environments.
  'flashsac_many': {
    **_FLASHSAC,
    'num_envs': 1024,
    'env_steps': 50_000_896,
    'lr_decay_steps': 50_000_896,
    'utd': 2 / 1024,
    'batch_size': 2048,
    'warmup': 100_000,
    'replay_capacity': 10_000_000,
    'log_every': 102_400,
    'eval_every': 2_560_000,
    'checkpoint_every': 5_120_000,
  },
  # crossq_wn made small, so that a laptop learns an easy task in minutes.
  'quickstart': {
    'num_seeds': 2,
    'env_steps': 80_000,
    'lr_decay_steps': 80_000,
    'lr_final': 0.1,
    'action_repeat': 4,
    'utd': 2,
    'log_every': 2_000,
    'eval_every': 10_000,
    'checkpoint_every': 20_000,
    'replay_capacity': 100_000,
    'warmup': 1_000,
    'critic_width': 128,
    'actor_width': 128,
    'critic_lr': 1e-3,
    'actor_lr': 1e-3,
    'alpha_lr': 1e-3,
    'init_alpha': 1.0,
  },
}

# On an accelerator quickstart changes the budget alone; networks and learning
# rates are the paper's.
QUICKSTART_ON_ACCELERATOR = {
  name: PRESETS['quickstart'][name]
  for name in (
    'num_seeds',
    'env_steps',
    'action_repeat',
    'utd',
    'log_every',
    'eval_every',
    'checkpoint_every',
    'replay_capacity',
    'warmup',
  )
}
