"""The counter with a stock environment, which other processes load by name."""

import time
import types

import dm_env
import numpy as np

from tests.learner.probes import Counter

TASK = 'tests.reliability.stock:env'
STEP_SECONDS = 0.004
"""Of the stock environment, so that an evaluation takes a while."""


class Stock:
  """Pays by the start and by the action, in steps that rounding leaves."""

  def __init__(self):
    self.task = types.SimpleNamespace(random=np.random.RandomState(0))

  def reset(self):
    self._start, self._steps = self.task.random.random_sample(), 0
    return dm_env.restart(self._observation())

  def step(self, action):
    time.sleep(STEP_SECONDS)
    self._steps += 1
    reward = self._start + np.round(4 * float(action[0]))
    if self._steps == 10:
      return dm_env.termination(reward, self._observation())
    return dm_env.transition(reward, self._observation())

  def _observation(self):
    return {'hidden': np.array([self._start, self._steps])}


class Stocked(Counter):
  """The counter with that stock environment."""

  name = TASK

  def stock_env(self, seed):
    return Stock()


def env():
  return Stocked(10)
