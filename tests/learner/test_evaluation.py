"""Returns in stock environments."""

import types

import dm_env
import numpy as np

from mjx_crossq.host.evaluation import StockEvaluation


class Countdown:
  """Pays the action for as many steps as its random state says, then ends."""

  def __init__(self):
    self.task = types.SimpleNamespace(random=np.random.RandomState(0))

  def reset(self):
    self._left = self.task.random.randint(3, 12)
    self.length = self._left
    return dm_env.restart(self._observation())

  def step(self, action):
    assert self._left > 0  # A real one would begin the next episode.
    self._left -= 1
    step = dm_env.transition if self._left else dm_env.termination
    kwargs = {'discount': 1.0} if self._left else {}
    return step(float(action[0]), self._observation(), **kwargs)

  def _observation(self):
    return {'left': np.array([self._left])}


def test_an_episode_that_ended_pays_no_more():
  made = []

  def stock_env(seed):
    made.append(Countdown())
    return made[-1]

  env = types.SimpleNamespace(
    stock_env=stock_env,
    episode_length=20,
    action_range=(np.array([0.0]), np.array([4.0])),
  )
  runner = types.SimpleNamespace(
    seeds=(5, 6),
    config=types.SimpleNamespace(num_seeds=2, eval_episodes=3, action_repeat=2),
    act=lambda policy, obs: np.full((*obs.shape[:2], 1), policy, np.float32),
  )
  returns = StockEvaluation(runner, env).returns(0.5, step=0)  # pyright: ignore
  assert returns.shape == (2, 3)
  # The action 0.5 of [-1, 1] is 3 in [0, 4].
  lengths = np.array([e.length for e in made]).reshape(2, 3)
  np.testing.assert_allclose(returns, 3 * lengths)
  assert len(np.unique(lengths)) > 1
