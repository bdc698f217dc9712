"""A trained policy that needs only NumPy.

This file imports nothing else of the project: copy it, with a `policy.npz`, to
where the policy is used. `python -m launch.export` writes both to one folder.

    policy = Policy('policy.npz')
    action = policy(timestep.observation)  # a dict of stock dm_control,
    action = policy(vector)                # or the vector it flattens to
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def act(
  layers: Sequence[tuple[str, Mapping[str, np.ndarray]]], x: np.ndarray
) -> np.ndarray:
  """The deterministic action in [-1, 1], `(..., action_size)`.

  Args:
    layers: kind and parameters of each layer, up to the tanh.
    x: observations, float32 `(..., observation_size)`.

  Raises:
    ValueError: a layer is of a kind that a newer version writes.
  """
  skips = []
  for kind, p in layers:
    if kind == 'dense':
      x = x @ p['kernel'] + p['bias']
    elif kind == 'relu':
      x = np.maximum(x, np.float32(0))
    elif kind == 'normalize':
      x = (x - p['mean']) * p['scale'] + p['bias']
    elif kind == 'layer_norm':
      x = x - x.mean(axis=-1, keepdims=True)
      var = np.mean(x * x, axis=-1, keepdims=True)
      x = x / np.sqrt(var + p['eps']) * p['scale'] + p['bias']
    elif kind == 'rms_norm':
      square = np.mean(x * x, axis=-1, keepdims=True)
      x = x / np.sqrt(square + p['eps']) * p['scale']
    elif kind == 'keep':
      skips.append(x)
    elif kind == 'add':
      x = x + skips.pop()
    else:
      raise ValueError(f'a layer {kind!r} needs a newer numpy_policy.py')
  return np.tanh(x)


class Policy:
  """The deterministic policy of one seed.

  Attributes:
    meta: description of the policy: `task`, `env_step`, `seed`,
      `action_repeat` (env steps for which an action is repeated),
      `observation` (name and shape of each part, in order), `layers`.
    low: lower bounds of an action, `(action_size,)`.
    high: upper bounds, `(action_size,)`.
  """

  def __init__(self, path: str | Path):
    """Reads a policy.

    Args:
      path: a `policy.npz` that `launch.export` wrote; it has no pickle.
    """
    with np.load(path, allow_pickle=False) as stored:
      self.meta: dict[str, Any] = json.loads(str(stored['meta']))
      self._layers = [
        (
          kind,
          {
            name.partition('.')[2]: stored[name]
            for name in stored.files
            if name.startswith(f'{index}.')
          },
        )
        for index, kind in enumerate(self.meta['layers'])
      ]
      self.low, self.high = stored['low'], stored['high']

  def __call__(self, observation: Mapping[str, Any] | Any) -> np.ndarray:
    """The action, `(..., action_size)`, in the task's own units.

    Args:
      observation: arrays by stock name, of one state, in any order; or
        vectors `(..., observation_size)`.

    Raises:
      ValueError: it is not an observation of the task.
    """
    share = (self.normalized(observation).astype(np.float64) + 1) / 2
    action = self.low + share * (self.high - self.low)
    return np.clip(action, self.low, self.high)

  def normalized(self, observation: Mapping[str, Any] | Any) -> np.ndarray:
    """The action in [-1, 1], `(..., action_size)`, for such an observation."""
    return act(self._layers, self._flat(observation))

  def _flat(self, observation: Mapping[str, Any] | Any) -> np.ndarray:
    """The observation as float32 vectors."""
    parts = self.meta['observation']
    if isinstance(observation, Mapping):
      missing = [name for name, _ in parts if name not in observation]
      if missing:
        raise ValueError(f'the observation lacks {", ".join(missing)}')
      observation = np.concatenate(
        [np.ravel(observation[name]) for name, _ in parts]
      )
    x = np.asarray(observation, np.float32)
    size = sum(int(np.prod(shape)) for _, shape in parts)
    if not x.ndim or x.shape[-1] != size:
      raise ValueError(
        f'{self.meta["task"]} observes {size} numbers, not {x.shape}'
      )
    return x
