"""No program calls what makes it wait without end for a thread.

LAPACK's batched functions split their work over the pool of the program that
calls them. Where all of its threads make such calls, each waits for a thread;
test_thread_pools.py has runs on pools of few.
"""

import re

import jax
import jax.numpy as jnp
import pytest

from mjx_crossq import Runner, envs, from_preset
from mjx_crossq.presets import PRESETS
from tests.learner import probes

_FEW = ('acrobot-swingup', 'cheetah-run', 'fish-swim')


def libraries(lowered):
  """The functions of LAPACK that a lowered program calls."""
  return set(re.findall(r'lapack\w*', lowered.as_text()))


def test_a_call_of_lapack_is_found():
  factorise = jax.jit(jnp.linalg.cholesky).lower(jnp.eye(3))
  assert libraries(factorise) == {'lapack_spotrf_ffi'}


@pytest.mark.parametrize(
  'task',
  [
    task if task in _FEW else pytest.param(task, marks=pytest.mark.slow)
    for task in envs.ALL_TASKS
  ],
)
def test_physics_call_no_lapack(task):
  env = envs.load(task, allow_unfaithful=True)
  state = jax.eval_shape(env.reset, jax.random.key(0))
  for lowered in (
    jax.jit(env.reset).lower(jax.random.key(0)),
    jax.jit(env.step).lower(state, jnp.zeros(env.action_size)),
  ):
    assert libraries(lowered) == set()


@pytest.mark.parametrize(
  'preset',
  [
    x if x in ('crossq_wn', 'xqc') else pytest.param(x, marks=pytest.mark.slow)
    for x in PRESETS
  ],
)
def test_a_run_calls_no_lapack(preset):
  config = from_preset(
    preset, num_seeds=2, critic_width=8, actor_width=8, replay_capacity=2000
  )
  runner = Runner(config, probes.Counter(20))
  state = runner.abstract_state()
  programs = (
    runner._init.lower(*runner._placed_start()),
    runner.lower_train_chunk(),
    runner._evaluate.lower(state.agent.actor.network, runner._keys_at(0)),
    runner._diagnose.lower(*runner._diagnosed(state, 0)),
  )
  assert [libraries(program) for program in programs] == 4 * [set()]
