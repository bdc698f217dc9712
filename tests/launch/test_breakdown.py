"""The parts of `launch.benchmark` do what the loop does, and count its work."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Runner, from_preset
from mjx_crossq.launch.bench import breakdown
from tests.learner.probes import Counter
from tests.learner.test_trainer import adam_counts

SETTINGS = {
  'num_seeds': 2,
  'num_envs': 2,
  'action_repeat': 2,
  'utd': 4,
  'critic_width': 32,
  'actor_width': 16,
  'batch_size': 64,
  'replay_capacity': 400,
}
ITERATIONS = 3
UPDATES = ITERATIONS * 2 * 4


@pytest.fixture(scope='module')
def runner():
  return Runner(from_preset('crossq_wn', **SETTINGS), Counter(10))


@pytest.mark.parametrize('part', breakdown.PARTS)
def test_a_part_is_the_loop_without_the_others(runner, part):
  before = jax.device_get(runner.init())
  function = breakdown.Parts(runner.trainer).functions()[part]
  program = breakdown.compile_part(runner, function)
  after = program(runner.init(), jnp.int32(ITERATIONS))
  assert after.iteration == ITERATIONS

  changed = {
    name
    for name, pick in {
      'steps': lambda s: s.rollout.env.obs[..., 1],
      'start': lambda s: s.rollout.env.obs[..., 0],
      'replay': lambda s: s.replay,
      'critic': lambda s: s.agent.critic,
      'actor': lambda s: s.agent.actor,
    }.items()
    if not all(
      jax.tree.leaves(
        jax.tree.map(np.array_equal, pick(before), jax.device_get(pick(after)))
      )
    )
  }
  allowed = {
    'physics': {'steps', 'start'},
    'acting': {'steps', 'start'},  # tied to its next input
    'replay add': {'replay'},
    'sampling': {'steps', 'start'},
    'critic': {'critic'},
    'actor': {'actor'},
  }
  assert changed <= allowed[part]
  agent = after.agent
  if part == 'physics':
    np.testing.assert_array_equal(
      after.rollout.env.obs[..., 1], ITERATIONS * SETTINGS['action_repeat']
    )
  elif part == 'replay add':
    written = np.any(np.asarray(after.replay) != 0, axis=-1)
    assert written.sum(axis=1).max() == ITERATIONS * 2 - 2  # the first is 0
  elif part == 'critic':
    assert set(adam_counts(agent.critic.opt_state).ravel()) == {UPDATES}
  elif part == 'actor':
    due = {-(-UPDATES // runner.config.policy_delay)}
    assert set(adam_counts(agent.actor.opt_state).ravel()) == due


def test_a_part_updates_in_every_kth_iteration_as_the_loop_does():
  config = from_preset('crossq_wn', **SETTINGS).replace(utd=0.125)
  runner = Runner(config, Counter(10))
  function = breakdown.Parts(runner.trainer).functions()['critic']
  state = breakdown.compile_part(runner, function)(runner.init(), jnp.int32(9))
  assert set(adam_counts(state.agent.critic.opt_state).ravel()) == {2}


def test_work_is_that_of_the_matrix_products(runner):
  """The products alone, counted by hand; the rest is elementwise."""
  c = runner.config

  def layers(inputs, width, outputs):
    return inputs * width + width * width + width * outputs

  critic = c.num_critics * layers(2 + 1, c.critic_width, 1)
  actor = layers(2, c.actor_width, 2)
  joint = 2 * 2 * c.batch_size
  # Online forward and backward, target forward, and the next actions; the
  # delayed actor: itself, and the critic to its inputs.
  per_update = joint * critic * (3 + 1) + 2 * c.batch_size * actor
  delayed = 2 * c.batch_size * (3 * actor + 2 * critic)
  expected = c.num_seeds * c.updates_per_iteration
  expected *= per_update + delayed / c.policy_delay
  work = breakdown.work(runner)
  assert 0.9 * expected < work['flops'] < 2 * expected
  assert work['bytes'] > 0
