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

# Bounds of the velocities' errors, median and 99 %. A solver may stop at our
# tolerance of 1e-6, where stock's is 1e-8.
_BOUNDS = {
  'finger': (1e-11, 2e-7),
  'humanoid': (1e-11, 3e-6),
  'manipulator': (1e-9, 1e-8),
  'stacker': (1e-9, 1e-8),
  'swimmer': (1e-11, 3e-7),
}

_CODE = """
import json, sys
import numpy as np
from mjx_crossq import envs
from mjx_crossq.envs.parity import measures as parity

env = envs.load(sys.argv[1])
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
"""


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
  median_bound, high_bound = _BOUNDS.get(task.split('-')[0], (1e-11, 1e-10))
  for name in ('v1', 'v25'):
    median, high, largest = errors[name]
    assert median < median_bound, errors
    assert high < high_bound, errors
    assert largest < 1e-4, errors
  # Observations and rewards are float32 all the same.
  for name in ('obs', 'reward'):
    median, high, _ = errors[name]
    assert high < 1e-5, errors
