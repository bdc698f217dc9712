"""Cheetah; mirrors `dm_control.suite.cheetah`."""

import jax
import jax.numpy as jp
from typing_extensions import override

from mjx_crossq.envs import rewards, suite
from mjx_crossq.envs.mjx import physics
from mjx_crossq.envs.mjx.models import Data

_RUN_SPEED = 10.0
"""Metres per second above which the reward is 1."""
_SETTLING_STEPS = 200


def make(task: str) -> 'Cheetah':
  """Builds 'run'."""
  return Cheetah('cheetah', task)


class Cheetah(suite.SuiteEnv):
  """Run forward."""

  @override
  def initial(self, rng):
    # Stock steps the model until it lies on the floor. The first of the steps
    # takes its forces from the default pose, because stock sets the joints
    # without recomputing what follows from them; `_data` are at that pose.
    data = self._data.replace(qpos=self._random_joints(rng))
    data = self.settle(data)
    return suite.Initial(data.qpos, data.qvel)

  def settle(self, data: Data) -> Data:
    """Lets the cheetah fall for two seconds without control."""
    ctrl = jp.zeros(self.mj_model.nu)
    return physics.step(self.model, data, ctrl, _SETTLING_STEPS)

  def _random_joints(self, rng: jax.Array) -> jax.Array:
    """Only limited joints: stock leaves the root's pitch at 0 here."""
    limited = jp.asarray(self.mj_model.jnt_limited == 1)
    qpos0 = jp.asarray(self.mj_model.qpos0, jp.float32)
    return jp.where(limited, super()._random_joints(rng), qpos0)

  @override
  def observe(self, data):
    return {'position': data.qpos[1:], 'velocity': data.qvel}

  @override
  def reward(self, data):
    speed = self._sensor(data, 'torso_subtreelinvel')[0]
    return rewards.at_least(speed, _RUN_SPEED, margin=_RUN_SPEED)
