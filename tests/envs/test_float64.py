"""In float64 our physics are C's: what differs in float32 is rounding."""

import json
import os
import subprocess
import sys

import pytest

from mjx_crossq import envs
from mjx_crossq.envs.parity import bounds

_FAST = ('cartpole-swingup',)
_MODELS = ('stacker-stack_4',)
"""More than the first task of a domain, for their models."""
_TASKS = [
  pytest.param(task, marks=() if task in _FAST else (pytest.mark.slow,))
  for task in (
    *{t.split('-')[0]: t for t in reversed(envs.ALL_TASKS)}.values(),
    *_MODELS,
  )
  if task.split('-')[0] in bounds.BOUNDS
]

# Bounds of the velocities' errors: median, 99 % and the largest. A solver may
# stop at our tolerance of 1e-6, where stock's is 1e-8. Why dog's are larger is
# not known: with 1e-12 on both sides they are the same.
_BOUNDS = {
  'dog': (1e-4, 0.1, 5),
  'finger': (1e-11, 2e-7, 1e-4),
  'humanoid': (1e-11, 3e-6, 1e-4),
  'humanoid_CMU': (1e-11, 1e-5, 1e-3),
  'manipulator': (1e-9, 1e-8, 1e-4),
  'stacker': (1e-9, 1e-8, 1e-4),
  'swimmer': (1e-11, 3e-7, 1e-4),
}

_CODE = '''
import json, sys
import numpy as np
from mjx_crossq import envs
from mjx_crossq.envs.parity import measures as parity

env = envs.load(sys.argv[1])


def exact(seed, stock_env=env.stock_env):
  """Stock that finds contacts of ellipsoids within 1e-12 instead of 1e-6."""
  stock = stock_env(seed)
  option = stock.physics.model.ptr.opt
  option.ccd_tolerance, option.ccd_iterations = 1e-12, 500
  return stock


env.stock_env = exact
records = parity.collect(env)
states = parity.start(env, records)
assert states.pipeline_state.qpos.dtype == np.float64
physics = parity.physics_errors(env, states, records)
step = parity.step_errors(env, states, records)
values = {**physics, 'obs': step.obs, 'reward': step.reward}
print(json.dumps({
  name: [float(np.median(x)), float(np.quantile(x, .99)), float(x.max())]
  for name, x in values.items()
}))
'''


@pytest.mark.parametrize('task', _TASKS)
def test_float64_physics_equal_c(task):
  result = subprocess.run(
    [sys.executable, '-c', _CODE, task],
    env=os.environ | {'JAX_ENABLE_X64': '1'},
    capture_output=True,
    text=True,
    check=True,
  )
  errors = json.loads(result.stdout)
  domain = task.split('-')[0]
  bound = _BOUNDS.get(domain, (1e-11, 1e-10, 1e-4))
  for name in ('v1', 'v25'):
    for error, most in zip(errors[name], bound, strict=True):
      assert error < most, errors
  # Observations and rewards are float32 all the same; dog observes forces.
  for name in ('obs', 'reward'):
    _, high, _ = errors[name]
    assert high < (1e-4 if domain == 'dog' else 1e-5), errors
