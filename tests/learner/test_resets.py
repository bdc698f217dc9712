"""Full resets: when, with which parameters, and what goes on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Runner, from_preset
from mjx_crossq.device.resets import _STREAM, Resets
from mjx_crossq.device.runner import seed_keys
from mjx_crossq.learner import orthogonal
from tests import rounding
from tests.learner.probes import Counter
from tests.learner.test_trainer import adam_counts

SMALL = {
  'action_repeat': 2,
  'utd': 4,
  'warmup': 5,
  'critic_width': 8,
  'actor_width': 8,
  'batch_size': 8,
  'replay_capacity': 200,
  'num_seeds': 2,
  'policy_delay': 3,
  'eval_episodes': 1,
}
# 10 updates in: after 3 iterations of 4 updates, that is in iteration 8, and
# then in 10, 13, ... The list: env steps 20 and 33 end in iterations 9 and 16.
SCHEDULES = {
  'every': ({'reset_every': 10}, [8, 10, 13, 15, 18, 20]),
  'at': ({'reset_every': 0, 'reset_at': (20, 33)}, [9, 16]),
}


@pytest.fixture(scope='module', params=SCHEDULES, ids=list(SCHEDULES))
def case(request):
  changes, iterations = SCHEDULES[request.param]
  config = from_preset('sac_resets', **{**SMALL, **changes})
  return Runner(config, Counter(10)), iterations


# These compile programs of their own, which do not depend on the schedule.
of_one_schedule = pytest.mark.parametrize(
  'case', ['every', pytest.param('at', marks=pytest.mark.slow)], indirect=True
)


def numbers(state):
  leaves = jax.tree.leaves((state.agent, state.rollout, state.replay))
  return [np.asarray(leaf) for leaf in leaves]


def test_schedule(case):
  runner, expected = case
  resets = Resets(runner.config)
  counts = [int(resets.count(jnp.int32(i))) for i in range(21)]
  assert [i for i in range(1, 21) if counts[i] > counts[i - 1]] == expected
  starts = [int(resets.start(jnp.int32(i))) for i in range(5, 21)]
  assert starts == [
    max([5, *(e for e in expected if e <= i)]) for i in range(5, 21)
  ]


def test_counters_start_anew_and_every_third_update_has_the_actor(case):
  runner, iterations = case
  first, second = iterations[:2]
  state, _ = runner.train_chunk(runner.init(), first)
  before = {4 * (first - 5)}
  assert set(adam_counts(state.agent.critic.opt_state).ravel()) == before
  for stop in range(first + 1, second + 2):
    updates = 4 * (stop - (first if stop <= second else second))
    state, sums = runner.train_chunk(state, stop)
    agent = state.agent
    assert set(adam_counts(agent.critic.opt_state).ravel()) == {updates}
    due = {updates // 3}
    for opt_state in (agent.actor.opt_state, agent.actor.alpha_opt_state):
      assert set(adam_counts(opt_state).ravel()) == due
    np.testing.assert_array_equal(sums['updates'], 4)
  assert runner.traces['train_chunk'] == 1


def test_a_resumed_run_is_the_undisturbed_one(case):
  runner, iterations = case
  stop = iterations[1] + 3
  whole, _ = runner.train_chunk(runner.init(), stop)
  for cut in (iterations[0], iterations[0] + 1, iterations[1]):
    state, _ = runner.train_chunk(runner.init(), cut)
    state, _ = runner.train_chunk(state, stop)
    for a, b in zip(numbers(state), numbers(whole), strict=True):
      np.testing.assert_array_equal(a, b)


@of_one_schedule
def test_the_whole_agent_is_new_and_the_replay_is_kept(case):
  runner, iterations = case
  frozen = runner.config.replace(critic_lr=0.0, actor_lr=0.0, alpha_lr=0.0)
  frozen = Runner(frozen, Counter(10))
  agent, seen = frozen.trainer.agent, []
  state = frozen.init()
  for index, iteration in enumerate(iterations[:2], start=1):
    state, _ = frozen.train_chunk(state, iteration)
    replay = np.asarray(state.replay)
    state, _ = frozen.train_chunk(state, iteration + 1)
    np.testing.assert_array_equal(
      state.replay[:, :iteration], replay[:, :iteration]
    )
    for seed in range(2):
      loop = jax.random.split(seed_keys([seed])[0])[1]
      key = jax.random.fold_in(jax.random.fold_in(loop, _STREAM), index)
      expected = agent.init(key)
      actual = jax.tree.map(lambda x, s=seed: x[s], state.agent)
      for part in (
        lambda a: a.actor.network.params,
        lambda a: a.critic.network.params,
        lambda a: a.critic.target_params,
        lambda a: a.actor.log_alpha,
      ):
        pairs = zip(
          jax.tree.leaves(part(actual)),
          jax.tree.leaves(part(expected)),
          strict=True,
        )
        for a, b in pairs:
          np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
      kernel = jax.tree.leaves(actual.critic.network.params)[0]
      seen.append(np.asarray(kernel).tobytes())
  assert len(set(seen)) == 4  # of two seeds and two resets


@of_one_schedule
def test_seeds_are_those_of_single_runs(case):
  runner, iterations = case
  stop = iterations[1] + 2
  together, _ = runner.train_chunk(runner.init(), stop)
  single = Runner(runner.config.replace(num_seeds=1, seed=1), Counter(10))
  alone, _ = single.train_chunk(single.init(), stop)
  row = [x[1] for x in numbers(together)]
  alone = [x[0] for x in numbers(alone)]
  assert rounding.distance(row, alone) < rounding.bound(single, stop, 1e-3)


def test_a_network_is_drawn_only_where_a_reset_is_due(case):
  """Under `vmap` the reset stays a branch: no network outside of it."""
  runner, _ = case
  program = jax.make_jaxpr(runner._train_chunk)(
    runner.abstract_state(),
    jax.ShapeDtypeStruct((), jnp.int32),
    jax.eval_shape(runner.zero_sums),
  )

  def names(jaxpr, inside):
    for eqn in jaxpr.eqns:
      yield eqn.params.get('name'), inside
      for value in eqn.params.values():
        for sub in value if isinstance(value, tuple | list) else [value]:
          sub = getattr(sub, 'jaxpr', sub)
          if hasattr(sub, 'eqns'):
            depth = inside + (eqn.primitive.name == 'while')
            yield from names(sub, depth)

  drawn = orthogonal.orthonormal.__name__
  found = {inside for name, inside in names(program.jaxpr, 0) if name == drawn}
  # In the loop over iterations, the branch that learns, and that of a reset.
  assert found == {3}
