"""The humanoid of the CMU motion data; mirrors `suite.humanoid_CMU`."""

from mjx_crossq.envs import humanoid


def make(task: str) -> 'HumanoidCMU':
  """Builds 'stand', 'walk' or 'run'."""
  return HumanoidCMU('humanoid_CMU', task)


class HumanoidCMU(humanoid.Humanoid):
  """Stand, or move at the task's speed in any direction."""

  trunk = 'thorax'
  trunk_up = 1
  limbs = ('lhand', 'lfoot', 'rhand', 'rfoot')
