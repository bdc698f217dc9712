"""The loop: what it counts, traces, writes, and does not copy."""

import jax
import numpy as np
import pytest
from scipy import stats

from mjx_crossq import Runner, from_preset
from tests.learner.probes import Counter

WARMUP = 8
SMALL = {
  'action_repeat': 2,
  'utd': 4,
  'warmup': WARMUP,
  'critic_width': 16,
  'actor_width': 16,
  'batch_size': 16,
  'eval_episodes': 2,
  'num_seeds': 2,
}
# One block of updates an iteration and one layer: it compiles in half the time.
SHORT = {**SMALL, 'utd': 3, 'critic_layers': 1, 'actor_layers': 1}


def adam_counts(opt_state):
  """The step counters in an optimiser's state."""
  leaves = jax.tree_util.tree_leaves_with_path(opt_state)
  return np.array(
    [
      leaf
      for path, leaf in leaves
      if jax.tree_util.keystr(path[-1:]) == '.count'
    ]
  )


@pytest.mark.parametrize(
  'num_envs', [1, pytest.param(4, marks=pytest.mark.slow)]
)
def test_accounting_traces_and_wrap_around(num_envs):
  config = from_preset(
    'crossq_wn', **SMALL, num_envs=num_envs, replay_capacity=80
  )
  runner = Runner(config, Counter(10))
  state = runner.init()
  sums = {'updates': 0, 'actor_updates': 0}
  for stop in (1, 5, 20, 32):
    state, chunk = runner.train_chunk(state, stop)
    sums = {name: sums[name] + chunk[name] for name in sums}
  decisions = 32 * num_envs

  updates = config.utd * (decisions - WARMUP)
  assert config.updates_at(32) == updates
  np.testing.assert_array_equal(sums['updates'], updates)
  np.testing.assert_array_equal(sums['actor_updates'], -(-updates // 3))
  agent = state.agent
  assert set(adam_counts(agent.critic.opt_state).ravel()) == {updates}
  assert set(adam_counts(agent.actor.opt_state).ravel()) == {-(-updates // 3)}
  assert set(adam_counts(agent.actor.alpha_opt_state).ravel()) == {
    -(-updates // 3)
  }

  # 40 rows: the newest decisions, in a ring.
  assert state.replay.shape == (2, 40, 2 * 2 + 1 + 2)
  steps = np.asarray(state.replay[..., 1]).reshape(2, -1, num_envs)
  iterations = np.arange(40 // num_envs)
  age = (31 - iterations) % (40 // num_envs)
  newest = (31 - age) * config.action_repeat % 10
  written = np.where(31 - age >= 0, newest, 0)
  np.testing.assert_array_equal(
    steps, np.broadcast_to(written[None, :, None], steps.shape)
  )

  policy = agent.actor.network
  runner.evaluate(policy, 0)
  runner.evaluate(policy, 5)
  runner.act(policy, np.zeros((2, 3, 2), np.float32))
  once = {'init': 1, 'train_chunk': 1, 'evaluate': 1, 'act': 1}
  assert runner.traces == {**once, 'diagnose': 0}


def test_warmup_actions_are_uniform_and_nothing_is_learned():
  config = from_preset('sac', **{**SMALL, 'warmup': 400})
  runner = Runner(config, Counter(10))
  before = runner.init()
  initial = jax.device_get(before.agent)
  state, _ = runner.train_chunk(before, 400)
  same = jax.tree.map(np.array_equal, initial, jax.device_get(state.agent))
  assert all(jax.tree.leaves(same))
  actions = np.asarray(state.replay[:, :400, 4]).ravel()
  assert stats.kstest(actions, 'uniform', args=(-1, 2)).pvalue > 1e-3


def test_no_operation_of_the_loop_costs_the_replay():
  """The compiled program neither copies nor holds a second buffer."""
  config = from_preset('crossq_wn', **SMALL, replay_capacity=2_000_000)
  runner = Runner(config, Counter(10))
  compiled = runner.lower_train_chunk().compile()
  rows, width = config.replay_rows, runner.trainer.replay.row_size
  size = config.num_seeds * rows * width * 4
  memory = compiled.memory_analysis()
  assert memory.alias_size_in_bytes >= size  # donated
  assert memory.temp_size_in_bytes < size / 10

  shape = f'f32[{config.num_seeds},{rows},{width}]'
  makers = [
    line.split(shape, 1)[1].split('} ', 1)[1].split('(', 1)[0]
    for line in compiled.as_text().splitlines()
    if f'= {shape}' in line
  ]
  assert 'dynamic-update-slice' in makers
  assert set(makers) <= {
    'parameter',
    'get-tuple-element',
    'dynamic-update-slice',
    'fusion',  # of the update alone: the memory above leaves no room
    'bitcast',
  }
