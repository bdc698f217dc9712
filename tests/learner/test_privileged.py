"""Observations of which actor and critic see different parts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mjx_crossq import Runner, from_preset
from mjx_crossq.host import dumps
from mjx_crossq.learner import numpy_policy
from mjx_crossq.policy import export
from tests.learner import probes
from tests.learner.test_trainer import SHORT


@pytest.fixture(scope='module')
def trained():
  env = probes.Privileged()
  config = from_preset('bro', **{**SHORT, 'action_repeat': 1, 'utd': 1})
  runner = Runner(config, env)
  state, metrics = runner.train_chunk(runner.init(), 40)
  assert np.isfinite(metrics['critic_loss']).all()
  assert metrics['actor_updates'].sum() > 0
  return env, runner, state


def test_networks_have_the_sizes_of_their_parts(trained):
  _, runner, state = trained
  agent = state.agent

  def inputs(tree):
    return {
      leaf.shape[-2]
      for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
      if "'Dense_0'" in jax.tree_util.keystr(path) and leaf.ndim > 2
    }

  actions = runner.trainer.agent.action_size
  assert inputs(agent.actor.network.params) == {2}
  assert inputs(agent.critic.network.params) == {1 + actions}
  assert inputs(agent.actor.explorer.params) == {2 + actions}
  # The replay has both, once each.
  assert state.replay.shape[-1] == 2 * 3 + actions + 2


def test_neither_reads_the_part_of_the_other(trained):
  _, runner, state = trained
  agent = runner.trainer.agent
  actor, critic = jax.tree.map(
    lambda x: x[0], (state.agent.actor, state.agent.critic.network)
  )
  obs, action = jnp.ones((4, 3)), jnp.ones((4, 1))
  noise = jax.random.normal(jax.random.key(0), action.shape)

  def slope(function):
    return jnp.abs(jax.grad(lambda x: function(x).sum())(obs)).sum(0) > 0

  acting = slope(lambda x: agent.explore(actor, x, noise))
  np.testing.assert_array_equal(acting, [True, True, False])
  valued = slope(lambda x: agent.q_values(critic, x, action))
  np.testing.assert_array_equal(valued, [False, False, True])


def test_files_take_the_part_of_the_actor(trained, tmp_path):
  env, runner, state = trained
  network = jax.tree.map(lambda x: x[0], state.agent.actor.network)
  exporter = export.Exporter(runner.config, env, network, seed=0, step=1)
  exporter.numpy(tmp_path)
  policy = numpy_policy.Policy(tmp_path / 'policy.npz')
  assert policy.meta['observation'] == [['observation', [2]]]
  obs = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
  rows = np.repeat(obs, len(runner.seeds), 0)
  expected = runner.act(state.agent.actor.network, rows)[0]
  found = policy(export.actor_part(env, obs[0]))
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_dumps_repeat_the_updates(trained, tmp_path):
  _, runner, state = trained
  dump = dumps.load(dumps.save(tmp_path, runner, state, 0))
  assert dump.sees == runner.trainer.agent.sees
  assert dump.replay()[0] is None
