"""Tasks as MuJoCo Playground's `MjxEnv`.

    env = MjxEnv(envs.load('cheetah-run'))
    env = mujoco_playground.wrapper.wrap_for_brax_training(env)

The interface is the same as ours but for the names of its methods and fields.
"""

import copy
import os
from typing import Any

import jax
from ml_collections import config_dict

from mjx_crossq.envs import base, runtime, suite

try:
  with runtime.quiet():
    import mujoco_playground  # pyright: ignore
except ImportError as error:
  raise ImportError(
    "playground is missing; pip install 'mjx-crossq[playground]'"
  ) from error

State = mujoco_playground.State


class MjxEnv(mujoco_playground.MjxEnv):
  """A task of the suite as Playground's wrappers and trainers take it.

  Playground's domain randomisation works with the backend 'mjx': it replaces
  the model that is stepped, while observations and rewards read their constants
  (lengths, target sizes) from the task's own.

  Attributes:
    task: the task behind it.
  """

  def __init__(self, task: suite.SuiteEnv):
    """Builds the environment; `reset` begins an episode.

    Args:
      task: of the suite.

    Raises:
      ValueError: it is not of the suite, and has no MJX model.
    """
    if not isinstance(task, suite.SuiteEnv):
      raise ValueError(f'{task.name} is no task of the suite')
    config = config_dict.create(
      ctrl_dt=task.control_timestep,
      sim_dt=task.control_timestep / task.substeps,
      episode_length=task.episode_length,
      action_repeat=1,
    )
    super().__init__(config)
    self.task = task
    # Where Playground's wrapper of domain randomisation puts its models.
    self._mjx_model = task.model
    self._model_assets = dict(task.stock_xml()[1])

  def reset(self, rng: jax.Array) -> Any:
    """A fresh initial state.

    Args:
      rng: a key.
    """
    return _to_playground(self._simulated().reset(rng))

  def step(self, state: Any, action: jax.Array) -> Any:
    """One control step, without a reset.

    Args:
      state: of this environment.
      action: `(action_size,)` in [-1, 1].
    """
    ours = base.State(
      pipeline_state=state.data,
      obs=state.obs,
      reward=state.reward,
      done=state.done,
      metrics=state.metrics,
      info=state.info,
    )
    return _to_playground(self._simulated().step(ours, action))

  def _simulated(self) -> suite.SuiteEnv:
    """The task, with another model if there is one now."""
    if self._mjx_model is self.task.model:
      return self.task
    if self.task.backend != 'mjx':
      raise ValueError(
        f"{self.task.name}: only physics='mjx' can randomise the model"
      )
    task = copy.copy(self.task)
    task.model = self._mjx_model
    return task

  @property
  def observation_size(self) -> int:
    """Length of an observation."""
    return self.task.observation_size

  @property
  def action_size(self) -> int:
    """Length of an action."""
    return self.task.action_size

  @property
  def mj_model(self) -> Any:
    """The C model that is simulated."""
    return self.task.mj_model

  @property
  def mjx_model(self) -> Any:
    """The MJX model that is simulated."""
    return self._mjx_model

  @property
  def xml_path(self) -> str:
    """The file of the stock domain, from which the model is edited."""
    folder = os.path.dirname(str(suite.import_stock('').__file__))
    return os.path.join(folder, f'{self.task.name.split("-")[0]}.xml')


def _to_playground(state: base.State) -> Any:
  """The same state by Playground's names."""
  data: Any = state.pipeline_state
  return State(
    data=data,
    obs=state.obs,
    reward=state.reward,
    done=state.done,
    metrics=state.metrics,
    info=state.info,
  )
