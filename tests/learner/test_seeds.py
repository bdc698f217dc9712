"""Seeds in one program are the seeds of single runs."""

import jax
import numpy as np
import pytest

from mjx_crossq import Runner, envs, from_preset
from tests import rounding

SMALL = {
  'task': 'pendulum-swingup',
  'action_repeat': 4,
  'utd': 3,
  'warmup': 250,
  'critic_width': 32,
  'actor_width': 32,
  'batch_size': 32,
  'replay_capacity': 2000,
  'matmul_precision': 'highest',
}
# Beyond an episode of 250 decisions; few updates, as rounding grows with them.
ITERATIONS = 257


@pytest.fixture(scope='module')
def together():
  config = from_preset('crossq_wn', **SMALL, num_seeds=3, seed=5)
  runner = Runner(config, envs.load(config.task))
  state, _ = runner.train_chunk(runner.init(), ITERATIONS)
  assert config.updates_at(ITERATIONS) == 21
  return config, runner, state


@pytest.fixture(scope='module')
def growth(together):
  """What rounding may make of one seed's run."""
  config, _, _ = together
  runner = Runner(config.replace(num_seeds=1), envs.load(config.task))
  return rounding.bound(runner, ITERATIONS)


@pytest.mark.parametrize('index', [pytest.param(0, marks=pytest.mark.slow), 2])
def test_a_seed_equals_its_single_run(together, growth, index):
  config, _, many = together
  single = config.replace(num_seeds=1, seed=config.seed + index)
  runner = Runner(single, envs.load(config.task))
  one, _ = runner.train_chunk(runner.init(), ITERATIONS)
  assert growth < 0.01  # or nothing could be seen
  parts = {
    'params': lambda s: (s.agent.actor.network, s.agent.critic.network),
    'replay': lambda s: s.replay,
    'returns': lambda s: s.rollout.last_return,
  }
  for name, part in parts.items():
    row = jax.tree.map(lambda x: x[index], part(many))
    alone = jax.tree.map(lambda x: x[0], part(one))
    assert rounding.distance(row, alone) < growth, name


def test_seeds_differ_from_each_other(together):
  _, _, state = together
  replay = np.asarray(state.replay)
  assert not np.allclose(replay[0], replay[1])
  kernels = np.asarray(jax.tree.leaves(state.agent.critic.network.params)[0])
  assert not np.allclose(kernels[0], kernels[1])


def test_evaluation_depends_on_seed_and_step_only(together):
  _, runner, state = together
  policy = state.agent.actor.network
  a, b, c = (runner.evaluate(policy, step) for step in (1, 1, 2))
  np.testing.assert_array_equal(a, b)
  assert a.shape == (3, 10)
  assert not np.array_equal(a, c)


def test_a_chunk_never_talks_to_the_host(together):
  _, runner, _ = together
  program = runner.lower_train_chunk().compile().as_text()
  assert 'while(' in program
  for word in ('infeed', 'outfeed', ' send(', ' recv(', 'callback'):
    assert word not in program
