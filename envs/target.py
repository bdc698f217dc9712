"""Tasks with a target whose position is drawn in each episode."""

import jax.numpy as jp
import numpy as np
from typing_extensions import override

from mjx_crossq.envs import suite


class TargetEnv(suite.SuiteEnv):
  """A task whose stock model is edited at each episode's start, in one place.

  The episode's parameter `target` is the position, in metres, of the element of
  that name.

  Attributes:
    target_field: the array of the model that holds it.
    target_axes: the coordinates that the episode draws.
  """

  target_field: str = 'geom_pos'
  target_axes: tuple[int, ...] = (0, 1)

  def _target_id(self) -> int:
    """Index of the target among geoms, sites or bodies."""
    kind = self.target_field.removesuffix('_pos')
    return getattr(self.mj_model, kind)('target').id

  @override
  def default_params(self):
    positions = getattr(self.model, self.target_field)
    return {'target': positions[self._target_id(), np.array(self.target_axes)]}

  @override
  def model_at(self, params):
    if 'target' not in params:  # Nothing that matters depends on it.
      return self.model
    positions = jp.asarray(getattr(self.model, self.target_field))
    at = self._target_id(), np.array(self.target_axes)
    moved = positions.at[at].set(params['target'])
    return self.model.replace(**{self.target_field: moved})

  @override
  def read_params(self, physics):
    positions = getattr(physics.model, self.target_field)
    row = positions[self._target_id()]
    return {'target': np.array(row[list(self.target_axes)])}

  @override
  def write_params(self, physics, params):
    if 'target' in params:
      positions = getattr(physics.model, self.target_field)
      positions[self._target_id(), list(self.target_axes)] = params['target']
