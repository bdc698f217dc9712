"""Ball in cup; mirrors `dm_control.suite.ball_in_cup`."""

import jax
import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import suite

_LOW, _HIGH = (-0.2, 0.2), (0.2, 0.5)


def make(task: str) -> 'BallInCup':
  """Builds 'catch'."""
  return BallInCup('ball_in_cup', task)


class BallInCup(suite.SuiteEnv):
  """Swing the ball, which hangs on a string, into the cup."""

  clear_resets = True

  @override
  def initial(self, rng):
    low = jp.array([_LOW[0], _HIGH[0]])
    high = jp.array([_LOW[1], _HIGH[1]])
    home = jp.asarray(self.mj_model.qpos0, jp.float32)
    joints = self._qpos_at('ball_x', 'ball_z')

    def draw(rng, _):
      ball = jax.random.uniform(rng, (2,), minval=low, maxval=high)
      return suite.Initial(home.at[joints].set(ball))

    return self._without_contact(rng, draw)

  @override
  def observe(self, data):
    return {'position': data.qpos, 'velocity': data.qvel}

  @override
  def reward(self, data):
    m = self.mj_model
    xz = np.array([0, 2])
    target, ball = m.site('target').id, m.body('ball').id
    offset = jp.abs(data.site_xpos[target] - data.xpos[ball])[xz]
    room = m.site_size[target][xz] - m.geom('ball').size[0]
    return jp.all(offset < room).astype(jp.float32)
