"""Pendulum; mirrors `dm_control.suite.pendulum`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import rewards, suite

_COSINE_BOUND = float(np.cos(np.deg2rad(8)))


def make(task: str) -> 'SwingUp':
  """Builds 'swingup'."""
  return SwingUp('pendulum', task)


class SwingUp(suite.SuiteEnv):
  """Swing the pole up and keep it within 8 degrees of the vertical."""

  @override
  def initial(self, rng):
    angle = jax.random.uniform(rng, (1,), minval=-jp.pi, maxval=jp.pi)
    return suite.Initial(angle)

  @override
  def observe(self, data):
    pole = data.xmat[self.mj_model.body('pole').id]
    return {
      'orientation': jp.stack([pole[2, 2], pole[0, 2]]),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    pole = data.xmat[self.mj_model.body('pole').id]
    return rewards.tolerance(pole[2, 2], (_COSINE_BOUND, 1.0))
