"""A run that takes seconds, for tests that break it."""

import csv
import json

import jax
import numpy as np

from mjx_crossq import from_preset
from mjx_crossq.host import run as loop
from tests.learner.probes import Counter

SAVE = 40  # env steps between checkpoints
WHOLE = 120
# What the host does, with values that differ from those of `config`.
HOST_FIELDS = {
  'env_steps': 2000,
  'log_every': 16,
  'eval_every': 0,
  'checkpoint_every': 0,
  'stop_at_return': 1.0,
  'stop_when': 'any',
  'keep_best': True,
  'stop_if_unfaithful': True,
  'init_from': 'elsewhere',
  'init_parts': 'policy_critic',
}
PROGRAMS = ('_init', '_train_chunk', '_evaluate', '_act', '_diagnose')


def config(**changes):
  settings = {
    'task': 'counter',
    'num_seeds': 2,
    'num_envs': 2,
    'action_repeat': 2,
    'utd': 1.5,  # One block of three updates an iteration: a short program.
    'warmup': 8,
    'critic_layers': 1,
    'actor_layers': 1,
    'critic_width': 16,
    'actor_width': 16,
    'batch_size': 16,
    'replay_capacity': 80,
    'env_steps': WHOLE,
    'log_every': 20,
    'eval_every': SAVE,
    'eval_episodes': 2,
    'checkpoint_every': SAVE,
  }
  return from_preset('crossq_wn', **settings | changes)


def env():
  counter = Counter(10)
  counter.name = 'counter'
  return counter


def quiet(_):
  pass


def train(workdir, report=quiet, *, stop=None, init=None, **changes):
  """Trains, or goes on, with some fields of `config` changed."""
  return loop.train(
    config(**changes),
    env(),
    workdir=workdir,
    resume=True,
    report=report,
    stop=stop,
    init=init,
  )


def assert_same_bits(a, b):
  """Two trees have the same bits, keys and NaN included."""
  pairs = zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  )
  for (path, x), y in pairs:
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
      x, y = jax.random.key_data(x), jax.random.key_data(y)
    np.testing.assert_array_equal(x, y, jax.tree_util.keystr(path))


def records(workdir):
  """The records of `metrics.jsonl` without times."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not k.startswith('time/')}
    for line in lines
  ]


def evaluations(workdir):
  with (workdir / 'eval.csv').open(newline='') as file:
    return list(csv.reader(file))
