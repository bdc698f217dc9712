"""The humanoid of the CMU motion data; mirrors `suite.humanoid_CMU`."""

from envs import humanoid


def make(task: str) -> 'HumanoidCMU':
  """Builds 'stand', 'walk' or 'run'."""
  return HumanoidCMU('humanoid_CMU', task)


class HumanoidCMU(humanoid.Humanoid):
  """Stand, or move at the task's speed in any direction."""

  unfaithful = (
    "MJX's contacts of ellipsoids, which its hands are, are not C's: 1 % of "
    'velocities are off by more than 0.03 after one control step'
  )
  trunk = 'thorax'
  trunk_up = 1
  limbs = ('lhand', 'lfoot', 'rhand', 'rfoot')
