"""Tasks as MuJoCo Playground's environments, under its own wrappers."""

import importlib
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from . import checks

PENDULUM, LENGTH, N = 'pendulum-swingup', 3, 2


@pytest.fixture(scope='module')
def playground():
  return pytest.importorskip('mujoco_playground')


@pytest.fixture(scope='module')
def env(playground):
  from mjx_crossq.envs.playground import MjxEnv

  return MjxEnv(checks.load(PENDULUM))


def test_interface(playground, env):
  assert isinstance(env, playground.MjxEnv)
  assert (env.observation_size, env.action_size) == (3, 1)
  # As any of Playground's computes it, from a reset.
  assert playground.MjxEnv.observation_size.fget(env) == 3
  assert env.unwrapped is env
  assert env.dt == env.task.control_timestep
  assert env.n_substeps == env.task.substeps
  assert env.mj_model.nq == env.mjx_model.nq == 1
  assert os.path.exists(env.xml_path)
  assert './common/visual.xml' in env.model_assets


def rollout(wrapped, actions):
  """Observations, rewards, done and truncations of an episode and more."""

  @jax.jit
  def play(keys):
    def body(state, action):
      state = wrapped.step(state, action)
      truncation = state.info['truncation']
      return state, (state.obs, state.reward, state.done, truncation)

    state = wrapped.reset(keys)
    last, out = jax.lax.scan(body, state, actions)
    return state, last, out

  return play(jax.random.split(jax.random.PRNGKey(0), N))


@pytest.mark.parametrize('full_reset', [False, True])
def test_playgrounds_training_wrappers(playground, env, full_reset):
  wrapped = playground.wrapper.wrap_for_brax_training(
    env, episode_length=LENGTH, full_reset=full_reset
  )
  actions = jnp.linspace(-1, 1, 5 * N).reshape(5, N, 1)
  first, last, (obs, reward, done, truncation) = rollout(wrapped, actions)
  np.testing.assert_array_equal(done, np.repeat([[0, 0, 1, 0, 0]], N, 0).T)
  # With full resets Playground forgets why an episode ended.
  np.testing.assert_array_equal(truncation, done * (not full_reset))
  assert (last.info['AutoResetWrapper_done_count'] == 1).all()
  # The steps are the task's own.
  task = env.task
  step = jax.jit(jax.vmap(task.step))
  qpos, qvel = first.data.qpos, first.data.qvel
  state = jax.vmap(task.state_from)(qpos, qvel)
  for i in range(LENGTH):
    state = step(state, actions[i])
    np.testing.assert_allclose(reward[i], state.reward, atol=1e-6)
    if i < LENGTH - 1:
      np.testing.assert_allclose(obs[i], state.obs, atol=1e-6)
  assert np.array_equal(obs[LENGTH - 1], first.obs) == (not full_reset)


def test_playgrounds_domain_randomisation(playground, env):
  def randomise(model):
    scale = jnp.array([1.0, 4.0])
    axes = jax.tree.map(lambda x: None, model)
    axes = axes.tree_replace({'dof_damping': 0})
    damping = scale[:, None] * model.dof_damping
    return model.tree_replace({'dof_damping': damping}), axes

  wrapped = playground.wrapper.wrap_for_brax_training(
    env, episode_length=LENGTH, randomization_fn=randomise
  )
  actions = jnp.ones((2, N, 1))
  first, _, (obs, *_) = rollout(wrapped, actions)
  task = env.task
  assert env.mjx_model is task.model  # It is put back.
  state = jax.vmap(task.state_from)(first.data.qpos, first.data.qvel)
  for action in actions:
    state = jax.jit(jax.vmap(task.step))(state, action)
  np.testing.assert_allclose(obs[1, 0], state.obs[0], atol=1e-6)
  assert np.abs(obs[1, 1] - state.obs[1]).max() > 1e-3


def test_warp_cannot_randomise(env, monkeypatch):
  monkeypatch.setattr(type(env.task), 'backend', 'warp')
  monkeypatch.setattr(env, '_mjx_model', None)
  with pytest.raises(ValueError, match="only physics='mjx'"):
    env.reset(jax.random.key(0))


def test_other_tasks_are_refused(playground):
  from mjx_crossq.envs.playground import MjxEnv
  from tests.learner.probes import ConstantReward

  with pytest.raises(ValueError, match='no task of the suite'):
    MjxEnv(ConstantReward())


def test_missing_playground_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'mujoco_playground', None)
  monkeypatch.delitem(sys.modules, 'mjx_crossq.envs.playground', raising=False)
  with pytest.raises(ImportError, match=r'mjx-crossq\[playground\]'):
    importlib.import_module('mjx_crossq.envs.playground')
