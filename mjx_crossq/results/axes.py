"""What curves may be drawn over: env steps, updates, or time."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from mjx_crossq.config import ConfigError

Points = Mapping[int, float] | Mapping[float, float]
"""A value at each env step, or at another x."""


class Axis(NamedTuple):
  """An x axis.

  Attributes:
    label: the unit.
    series: of `metrics.jsonl`, which has the value at each env step; '' for the
      env steps themselves.
    unit: by which the series is divided.
    digits: after the point, in text.
  """

  label: str
  series: str = ''
  unit: float = 1.0
  digits: int = 0

  def text(self, value: float) -> str:
    """A value with its unit, such as 25,000 env steps."""
    return f'{value:,.{self.digits}f} {self.label}'

  def place(
    self,
    trace: Mapping[int, float],
    recorded: Mapping[int, float],
    what: str,
  ) -> dict[float, float]:
    """Values on this axis, linear between its records; none beyond them.

    Args:
      trace: the values by env step.
      recorded: `series` by env step.
      what: they are of, for the message.

    Raises:
      ConfigError: there are no records of the axis.
    """
    steps = sorted(recorded)
    inside = [s for s in sorted(trace) if steps and steps[0] <= s <= steps[-1]]
    if not inside:
      raise ConfigError(
        f'{what}: no {self.series} is recorded; take --x=env_steps, or leave '
        'the run out'
      )
    x = np.interp(inside, steps, [recorded[s] for s in steps]) / self.unit
    # Before learning begins, several env steps have the same update, 0.
    return {float(at): trace[s] for at, s in zip(x, inside, strict=True)}


ENV_STEPS = Axis('env steps')

AXES = {
  'env_steps': ENV_STEPS,
  'updates': Axis('updates', 'update'),
  'wall': Axis('wall-clock minutes', 'time/elapsed_seconds', 60.0, 1),
}
"""By the values of `--x`. The time is that of the process that trained the
seed: of all of its processes, without the time between them and without
compilation, and with the evaluations; the seeds of a program share it."""
