"""A small agent learns a real task; judged in stock dm_control."""

import envs
from mjx_crossq import from_preset, train


def test_crossq_wn_swings_up_the_cartpole():
  config = from_preset(
    'quickstart',
    task='cartpole-swingup',
    num_seeds=1,
    env_steps=30_000,
    eval_every=0,
  )
  assert config.critic_width == 128 and config.weight_norm
  lines = []
  result = train(config, envs.load(config.task), report=lines.append)
  assert result.returns['dm_control'].shape == (1, 10)
  # Of 10 seeds the worst had 476; without learning it is below 200.
  assert result.returns['dm_control'].mean() > 400
  assert result.returns['mjx'].mean() > 400
  assert any('updates/s' in line for line in lines)
