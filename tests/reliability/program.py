"""`launch.train` on the counter, for tests that kill it.

python -m tests.reliability.program --workdir=... --resume
"""

import sys

from mjx_crossq import envs
from mjx_crossq.launch import train
from tests.reliability import runs


def main():
  envs.register('counter', runs.env)
  config = runs.config()
  flags = {
    'task': 'counter',
    **{
      name: getattr(config, name)
      for name in (
        'num_seeds',
        'num_envs',
        'action_repeat',
        'utd',
        'env_steps',
        'log_every',
        'eval_every',
        'eval_episodes',
        'checkpoint_every',
      )
    },
  }
  sets = (
    'warmup',
    'critic_layers',
    'actor_layers',
    'critic_width',
    'actor_width',
    'batch_size',
    'replay_capacity',
  )
  given = {arg.split('=')[0] for arg in sys.argv[1:]}
  sys.argv[1:1] = [
    *(f'--{k}={v}' for k, v in flags.items() if f'--{k}' not in given),
    *(f'--set={name}={getattr(config, name)}' for name in sets),
  ]
  train.run()


if __name__ == '__main__':
  main()
