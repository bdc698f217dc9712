"""What curves may be drawn over: env steps, updates, or time."""

from typing import NamedTuple


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


ENV_STEPS = Axis('env steps')

AXES = {
  'env_steps': ENV_STEPS,
  'updates': Axis('updates', 'update'),
  'wall': Axis('wall-clock minutes', 'time/elapsed_seconds', 60.0, 1),
}
"""By the values of `--x`. The time is that of the process that trained the
seed: of all of its processes, without the time between them and without
compilation, and with the evaluations; the seeds of a program share it."""
