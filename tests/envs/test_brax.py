"""brax's own agents train on our tasks.

PPO is in docs/ecosystem.md and runs with it.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.ppo import train as ppo
from brax.training.agents.sac import networks as sac_networks
from brax.training.agents.sac import train as sac

from . import checks

TASK = 'pendulum-swingup'


@pytest.fixture(autouse=True)
def replicated(monkeypatch):
  """What brax 0.14 calls and JAX does not have any more."""

  def stack(tree, devices):
    return jax.tree.map(lambda x: jnp.stack([x] * len(devices)), tree)

  monkeypatch.setattr(jax, 'device_put_replicated', stack, raising=False)


@pytest.mark.slow
def test_sac_trains():
  env, history = checks.load(TASK), []
  make_policy, params, metrics = sac.train(
    env,
    num_timesteps=256,
    episode_length=20,
    num_envs=8,
    num_eval_envs=8,
    batch_size=16,
    min_replay_size=64,
    max_replay_size=1024,
    num_evals=2,
    network_factory=functools.partial(
      sac_networks.make_sac_networks, hidden_layer_sizes=(16,)
    ),
    progress_fn=lambda steps, metrics: history.append(steps),
  )
  assert history[0] == 0 and history[-1] >= 256
  assert np.isfinite(metrics['training/critic_loss'])
  assert np.isfinite(metrics['training/actor_loss'])
  assert metrics['eval/avg_episode_length'] == 20
  state = env.reset(jax.random.key(0))
  action, _ = make_policy(params)(state.obs, jax.random.key(1))
  assert action.shape == (1,) and np.abs(action).max() <= 1


@pytest.mark.slow
def test_ppo_trains_through_playground():
  playground = pytest.importorskip('mujoco_playground')
  from mjx_crossq.envs.playground import MjxEnv

  _, _, metrics = ppo.train(
    MjxEnv(checks.load(TASK)),
    num_timesteps=256,
    episode_length=20,
    num_envs=8,
    num_eval_envs=8,
    unroll_length=4,
    batch_size=8,
    num_minibatches=2,
    num_evals=2,
    network_factory=functools.partial(
      ppo_networks.make_ppo_networks,
      policy_hidden_layer_sizes=(16,),
      value_hidden_layer_sizes=(16,),
    ),
    wrap_env_fn=playground.wrapper.wrap_for_brax_training,
  )
  assert np.isfinite(metrics['training/total_loss'])
  assert metrics['eval/avg_episode_length'] == 20
