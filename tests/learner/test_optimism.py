"""The optimistic actor: what it samples, and that it collects the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Agent, Runner, from_preset
from mjx_crossq.learner import optimism
from tests import rounding
from tests.learner.probes import Counter

SMALL = {
  'critic_width': 8,
  'actor_width': 8,
  'atoms': 4,
  'batch_size': 8,
  'utd': 2,
  'warmup': 5,
  'replay_capacity': 60,
  'num_seeds': 2,
  'reset_at': (15,),
}


def make(**changes):
  agent = Agent(from_preset('bro', **{**SMALL, **changes}), 3, 2)
  state = jax.jit(agent.init)(jax.random.key(0)).actor
  return agent, state, jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))


def with_shift(state, value):
  """The actor state whose explorer shifts every mean by about `value`."""
  params = jax.tree.map(jnp.zeros_like, state.explorer.params)
  params['LayerNorm_0']['bias'] += 1.0  # ReLU lets it through
  head = params['shift']['weights']
  kernel = jnp.full_like(head.kernel, value / head.kernel.shape[0])
  params['shift']['weights'] = head.replace(kernel=kernel)
  return state.replace(explorer=state.explorer.replace(params=params))


def test_multipliers_start_at_their_values_and_keep_the_kl_at_its_target():
  agent, state, obs = make()
  np.testing.assert_allclose(
    optimism.multipliers(state.explorer.raw), [1.0, 0.25], rtol=1e-4
  )
  mean, log_std = jnp.zeros((6, 2)), jnp.zeros((6, 2))
  moves = []

  @jax.jit
  def update(explorer):
    return agent.explorer.update(
      explorer,
      obs,
      (mean, log_std),
      lambda a: jnp.zeros((2, 6, 4)) * a.sum(),
      agent.values.mean,
      jax.random.key(1),
    )

  for shift in (0.1, 1.0):  # KL per dimension .005 and .5, the target is .05
    explorer = with_shift(state, shift).explorer
    new = update(explorer)
    moves.append(np.sign(new.raw - explorer.raw))
  np.testing.assert_array_equal(moves, [[1, -1], [-1, 1]])


def test_it_shifts_the_mean_and_narrows_the_policy():
  key = jax.random.key(3)
  agent, state, obs = make(explore_std=1.0)
  action = agent.act(state.network, obs, key)
  policy, noise = np.arctanh(action), jax.random.normal(key, action.shape)
  same = np.arctanh(agent.explore(with_shift(state, 0.0), obs, noise))
  np.testing.assert_allclose(same, policy, rtol=1e-3, atol=1e-4)
  moved = np.arctanh(agent.explore(with_shift(state, 0.3), obs, noise))
  # Near an action of 1 float32 leaves arctanh few digits.
  inner = np.abs(policy) < 2.5
  assert inner.sum() > inner.size / 2
  np.testing.assert_allclose((moved - policy)[inner], 0.3, rtol=1e-2)
  narrow, _, _ = make()
  half = np.arctanh(narrow.explore(with_shift(state, 0.0), obs, noise))
  mean = np.arctanh(agent.act_deterministic(state.network, obs))
  np.testing.assert_allclose(
    half - mean, 0.75 * (policy - mean), rtol=1e-2, atol=1e-3
  )


@pytest.fixture(scope='module')
def run():
  config = from_preset('bro', **SMALL)
  runner = Runner(config, Counter(10))
  state, _ = runner.train_chunk(runner.init(), 20)
  return runner, jax.tree.map(jnp.copy, state)


@pytest.mark.slow
def test_it_collects_the_data(run, monkeypatch):
  runner, state = run
  monkeypatch.setattr(Agent, 'explore', lambda *_: jnp.full((1, 1), 0.5))
  patched = Runner(runner.config, Counter(10))
  after, _ = patched.train_chunk(state, 21)
  np.testing.assert_array_equal(after.replay[:, 20, 4], 0.5)


@pytest.mark.slow
def test_seeds_are_those_of_single_runs_with_a_reset_between():
  # Not the module's runner, whose programs may be forgotten between two tests.
  runner = Runner(from_preset('bro', **SMALL), Counter(10))
  before, _ = runner.train_chunk(runner.init(), 10)
  together, _ = runner.train_chunk(before, 20)
  assert runner.traces['train_chunk'] == 1
  single = Runner(runner.config.replace(num_seeds=1, seed=1), Counter(10))
  alone, _ = single.train_chunk(single.init(), 20)
  row = jax.tree.map(lambda x: x[1], together.agent)
  alone = jax.tree.map(lambda x: x[0], alone.agent)
  assert rounding.distance(row, alone) < rounding.bound(single, 20, 1e-3)
