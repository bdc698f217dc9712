"""A policy played in an interactive viewer, in real time."""

import itertools
import time
from typing import Any

from mjx_crossq.host.evaluation import StockEpisodes
from mjx_crossq.learner.states import Network


class _ClosedError(Exception):
  """The window was closed."""


def show(
  episodes: StockEpisodes,
  policy: Network,
  step: int,
  row: int,
  viewer: Any,
  speed: float = 1.0,
) -> None:
  """Plays the episodes of an evaluation in turn until the window is closed.

  Args:
    episodes: of one stock environment, which the viewer shows.
    policy: actors of all seeds.
    step: env step of the policy.
    row: index of the seed.
    viewer: as `mujoco.viewer.launch_passive` returns it.
    speed: as a multiple of real time.
  """
  period = episodes.stock[0].control_timestep() / speed
  due = time.monotonic()

  def watch(index, stock, reward):
    nonlocal due
    del index, stock, reward
    if not viewer.is_running():
      raise _ClosedError
    viewer.sync()
    # After a delay the motion continues at its speed; catching up would jump.
    now = time.monotonic()
    due = max(due + period, now)
    time.sleep(due - now)

  count = episodes.runner.config.eval_episodes
  try:
    for episode in itertools.cycle(range(count)):
      returns = episodes.play(policy, step, [(row, episode)], watch)
      print(f'episode {episode}: return {returns[0]:.1f}', flush=True)
  except _ClosedError:
    pass
