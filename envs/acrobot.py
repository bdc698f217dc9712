"""Acrobot; mirrors `dm_control.suite.acrobot`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import rewards, suite

_ARMS = ('upper_arm', 'lower_arm')


def make(task: str) -> 'Acrobot':
  """Builds 'swingup' or 'swingup_sparse'."""
  return Acrobot(task)


class Acrobot(suite.SuiteEnv):
  """Swing the tip of a double pendulum up, by its elbow alone."""

  def __init__(self, task: str):
    """Builds the task.

    Args:
      task: stock's name.
    """
    self._margin = 0.0 if task == 'swingup_sparse' else 1.0
    super().__init__('acrobot', task)

  @override
  def initial(self, rng):
    return suite.Initial(
      jax.random.uniform(rng, (2,), minval=-jp.pi, maxval=jp.pi)
    )

  @override
  def observe(self, data):
    arms = data.xmat[np.array([self.mj_model.body(name).id for name in _ARMS])]
    return {
      'orientations': jp.concatenate([arms[:, 0, 2], arms[:, 2, 2]]),
      'velocity': data.qvel,
    }

  @override
  def reward(self, data):
    target, tip = (self.mj_model.site(name) for name in ('target', 'tip'))
    distance = jp.linalg.norm(
      data.site_xpos[target.id] - data.site_xpos[tip.id]
    )
    return rewards.tolerance(
      distance, (0.0, float(target.size[0])), self._margin
    )
