"""Swimmers of many links; mirrors `dm_control.suite.swimmer`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import rewards, suite, target
from mjx_crossq.envs.mjx import models

_P_CLOSE = 0.2
"""Probability that the target is near."""
_BOXES = (0.3, 2.0)
"""Half widths, in metres, of the boxes of near and other targets."""


def make(task: str) -> 'Swimmer':
  """Builds 'swimmer6' or 'swimmer15'."""
  return Swimmer('swimmer', task)


class Swimmer(target.TargetEnv):
  """Swim to the target."""

  @override
  def stock_xml(self):
    links = int(self._task.removeprefix('swimmer'))
    return suite.import_stock('swimmer').get_model_and_assets(links)

  @override
  def initial(self, rng):
    joints_rng, close_rng, target_rng = jax.random.split(rng, 3)
    close = jax.random.bernoulli(close_rng, _P_CLOSE)
    position = jax.random.uniform(target_rng, (2,), minval=-1, maxval=1)
    return suite.Initial(
      self._random_joints(joints_rng),
      params={'target': position * jp.where(close, *_BOXES)},
    )

  def _nose_to_target(self, data) -> jax.Array:
    """Vector from the nose to the target in the head's frame, `(2,)`."""
    m = self.mj_model
    nose, goal = (m.geom(name).id for name in ('nose', 'target'))
    offset = data.geom_xpos[goal] - data.geom_xpos[nose]
    return (offset @ data.xmat[m.body('head').id])[:2]

  @override
  def observe(self, data):
    kinds = models.mujoco.mjtSensor
    velocities = self._sensors(
      data, kinds.mjSENS_VELOCIMETER, kinds.mjSENS_GYRO
    ).reshape(-1, 6)
    return {
      'joints': data.qpos[3:],
      'to_target': self._nose_to_target(data),
      # Linear along x and y, angular around z.
      'body_velocities': velocities[:, np.array([0, 1, 5])],
    }

  @override
  def reward(self, data):
    size = float(self.mj_model.geom('target').size[0])
    return rewards.tolerance(
      jp.linalg.norm(self._nose_to_target(data)),
      bounds=(0.0, size),
      margin=5 * size,
      sigmoid='long_tail',
    )
