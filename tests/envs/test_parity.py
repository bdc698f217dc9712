"""Every task against stock dm_control, by `envs.parity`'s measurements.

Bounds are for float32 physics. Medians and 99 % quantiles are bounded rather
than the maxima: in a few of 300 states a geom is within float32's resolution
of touching, and the contact acts one physics step earlier or later than in C.
In float64 the same code agrees with C to 1e-9, see `test_float64.py`.
"""

import numpy as np
import pytest

import envs
from envs import parity

from . import measured

# One worker gets all tasks of a domain: they share compilations.
_DOMAINS: dict[str, list[str]] = {}
for _task in envs.ALL_TASKS:
  _DOMAINS.setdefault(_task.split('-')[0], []).append(_task)


def _grouped(names):
  return [
    pytest.param(name, marks=pytest.mark.xdist_group(name.split('-')[0]))
    for name in names
  ]


each_task = pytest.mark.parametrize('task', _grouped(envs.ALL_TASKS))
each_domain = pytest.mark.parametrize(
  'task', _grouped(tasks[0] for tasks in _DOMAINS.values())
)


@each_task
def test_spec_equals_stock(task):
  env = measured.env(task)
  stock = env.stock_env(seed=0)
  spec = stock.action_spec()
  low, high = env.action_range
  np.testing.assert_array_equal(low, spec.minimum)
  np.testing.assert_array_equal(high, spec.maximum)
  assert env.action_size == spec.shape[0]
  assert env.name == task
  assert env.control_timestep == stock.control_timestep()
  timestep = stock.reset()
  steps = 0
  while not timestep.last():
    timestep = stock.step(np.zeros(spec.shape))
    steps += 1
  assert env.episode_length == steps
  records = measured.records(task)
  assert records.obs.shape == (len(records), env.observation_size)
  assert measured.states(task).obs.shape == records.obs.shape


def _split(task, errors):
  """Errors of entries that follow from the state, and from the last solve."""
  env = measured.env(task)
  solved = np.zeros(env.observation_size, bool)
  start = 0
  for name, spec in env.stock_env(0).observation_spec().items():
    size = int(np.prod(spec.shape))
    solved[start : start + size] = name in env.from_solve
    start += size
  return errors[:, ~solved], errors[:, solved]


@each_task
def test_state_from_equals_stock(task):
  records = measured.records(task)
  assert len(records) >= 200
  errors = parity.state_errors(measured.states(task), records)
  exact, solved = _split(task, errors.obs)
  assert exact.max() < 1e-5
  assert solved.max(initial=0) < 1e-3
  assert errors.reward.max() < 1e-5


@each_task
def test_states_tell_rewards_apart(task):
  # The comparison of rewards is empty if stock pays the same everywhere.
  rewards = measured.records(task).reward
  assert len(np.unique(rewards)) > 1
