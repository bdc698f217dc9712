"""Ball in cup; mirrors `dm_control.suite.ball_in_cup`."""

import jax
import jax.numpy as jp
import numpy as np

from envs import physics, suite

# One draw in six touches the cup, so this many never do in practice; the
# bound keeps a NaN from hanging the device.
_MAX_DRAWS = 100
_LOW, _HIGH = (-0.2, 0.2), (0.2, 0.5)


def make(task: str) -> 'BallInCup':
  """Builds 'catch'."""
  return BallInCup('ball_in_cup', task)


class BallInCup(suite.SuiteEnv):
  """Swing the ball, which hangs on a string, into the cup."""

  def initial(self, rng):
    """See base class."""
    low = jp.array([_LOW[0], _HIGH[0]])
    high = jp.array([_LOW[1], _HIGH[1]])
    joints = [self.mj_model.joint(n).qposadr[0] for n in ('ball_x', 'ball_z')]
    home = jp.asarray(self.mj_model.qpos0, jp.float32)

    def draw(carry):
      rng, _, _, count = carry
      rng, ball_rng = jax.random.split(rng)
      ball = jax.random.uniform(ball_rng, (2,), minval=low, maxval=high)
      qpos = home.at[jp.array(joints)].set(ball)
      touches = physics.penetrates(self.model, self._data.replace(qpos=qpos))
      return rng, qpos, touches, count + 1

    def again(carry):
      _, _, touches, count = carry
      return touches & (count < _MAX_DRAWS)

    start = (rng, home, jp.array(True), jp.zeros((), jp.int32))
    _, qpos, _, _ = jax.lax.while_loop(again, draw, start)
    return qpos, jp.zeros(self.mj_model.nv), {}

  def observe(self, data):
    """See base class."""
    return {'position': data.qpos, 'velocity': data.qvel}

  def reward(self, data):
    """See base class."""
    m = self.mj_model
    xz = np.array([0, 2])
    target, ball = m.site('target').id, m.body('ball').id
    offset = jp.abs(data.site_xpos[target] - data.xpos[ball])[xz]
    room = m.site_size[target][xz] - m.geom('ball').size[0]
    return jp.all(offset < room).astype(jp.float32)
