"""A run in miniature, again and again, on a pool of few threads.

python -m tests.reliability.threads TASK TIMES

JAX starts before the package is imported, as it may in a user's program.
"""

import sys

import jax

jax.block_until_ready(jax.numpy.ones(3))

from mjx_crossq import Runner, envs, from_preset  # noqa: E402

SMALL = {'critic_width': 64, 'actor_width': 64, 'replay_capacity': 10_000}


def main(task, times):
  """Initialises, steps, learns, is reset and evaluates."""
  devices = jax.devices()
  config = from_preset(
    'crossq_wn',
    task=task,
    num_seeds=2 * len(devices),
    num_envs=32,
    utd=1,
    warmup=64,
    reset_every=64,
    eval_episodes=2,
    **SMALL,
  )
  runner = Runner(config, envs.load(task), devices)
  for _ in range(times):
    _, sums = runner.train_chunk(runner.init(), 6)
    jax.block_until_ready(sums)
  assert len(runner.placement.devices) == len(devices)
  print('done')


if __name__ == '__main__':
  main(sys.argv[1], int(sys.argv[2]))
