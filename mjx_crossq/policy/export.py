"""A trained policy as files that can be used without this project.

The NumPy file and the ONNX model are written from a list of the network's
layers with their parameters; StableHLO is compiled from the network itself.
Each file is read back and compared with the trained policy.
"""

import dataclasses
import functools
import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.config import Config, ConfigError
from mjx_crossq.envs.base import Env, flatten_observation
from mjx_crossq.host.stock_episodes import seed_episode
from mjx_crossq.learner import networks, numpy_policy
from mjx_crossq.learner.agent import Agent
from mjx_crossq.learner.policy_layers import policy_layers
from mjx_crossq.learner.states import Network

TOLERANCE = 1e-5
"""Largest difference between an exported policy's action and the trained
policy's, as a share of half the action's range."""

Layer = tuple[str, dict[str, Any]]
Act = Callable[[np.ndarray], np.ndarray]
"""Maps `(rows, observation_size)` to stock actions `(rows, action_size)`."""


class ExportError(RuntimeError):
  """A file does not act like the trained policy; it must not be used."""


@dataclasses.dataclass(frozen=True)
class Exporter:
  """Writes the deterministic policy of one seed.

  Attributes:
    config: of the run.
    env: its environment.
    network: the seed's actor, without a seed axis.
    seed: the absolute seed.
    step: env step of the policy.
  """

  config: Config
  env: Env
  network: Network
  seed: int
  step: int

  @property
  def _observation_size(self) -> int:
    return sum(int(np.prod(shape)) for _, shape in self.meta['observation'])

  @functools.cached_property
  def _act(self) -> Any:
    """The trained policy in float32: `(rows, obs)` to stock actions."""
    c = self.config.replace(matmul_precision='highest')
    agent = Agent(c, self._observation_size, self.env.action_size)
    low, high = map(jnp.float32, self.env.action_range)

    def act(obs):
      action = agent.act_deterministic(self.network, obs)
      return jnp.clip(low + (action + 1) / 2 * (high - low), low, high)

    return jax.jit(act)

  def live(self, obs: np.ndarray) -> np.ndarray:
    """Actions of the trained policy, `(rows, action_size)`."""
    return np.asarray(self._act(jnp.asarray(obs, jnp.float32)))

  @functools.cached_property
  def layers(self) -> list[Layer]:
    """The network's layers up to its tanh."""
    return policy_layers(self.config, self.network)

  @functools.cached_property
  def meta(self) -> dict[str, Any]:
    """Description of the policy that every file contains."""
    return {
      'format': 1,
      'task': self.config.task,
      'preset': self.config.preset,
      'seed': self.seed,
      'env_step': self.step,
      'action_repeat': self.config.action_repeat,
      'observation': _observation_parts(self.env),
    }

  def numpy(self, folder: Path) -> Act:
    """Writes `policy.npz`, and `numpy_policy.py` that reads it.

    Args:
      folder: an existing folder.

    Returns:
      The policy, read back from the file.
    """
    arrays = {
      f'{index}.{name}': value
      for index, (_, values) in enumerate(self.layers)
      for name, value in values.items()
    }
    low, high = (np.float64(bound) for bound in self.env.action_range)
    meta = {**self.meta, 'layers': [kind for kind, _ in self.layers]}
    path = folder / 'policy.npz'
    np.savez(path, meta=json.dumps(meta), low=low, high=high, **arrays)
    shutil.copy(numpy_policy.__file__, folder / 'numpy_policy.py')
    return numpy_policy.Policy(path)

  def stablehlo(self, folder: Path) -> Act:
    """Writes `policy.stablehlo`, for `jax.export.deserialize`.

    It maps float32 `(rows, observation_size)` to `(rows, action_size)` for any
    number of rows, on CPU, CUDA and TPU.

    Args:
      folder: an existing folder.

    Returns:
      The policy, read back from the file.

    Raises:
      ConfigError: flatbuffers is not installed.
    """
    require('flatbuffers')
    (rows,) = jax.export.symbolic_shape('rows')
    obs = jax.ShapeDtypeStruct((rows, self._observation_size), jnp.float32)
    exported = jax.export.export(self._act, platforms=('cpu', 'cuda', 'tpu'))
    path = folder / 'policy.stablehlo'
    path.write_bytes(exported(obs).serialize())
    stored = jax.export.deserialize(bytearray(path.read_bytes()))
    return lambda x: np.asarray(stored.call(jnp.asarray(x, jnp.float32)))

  def onnx(self, folder: Path) -> Act:
    """Writes `policy.onnx`: float32 `observation` to `action`, for any rows.

    Args:
      folder: an existing folder.

    Returns:
      The policy, read back from the file.

    Raises:
      ConfigError: onnx or onnxruntime is not installed.
    """
    from mjx_crossq.policy import onnx_export

    require('onnx', 'onnxruntime')
    low, high = self.env.action_range
    path = folder / 'policy.onnx'
    return onnx_export.write(path, self.layers, low, high, self.meta)

  def check(self, act: Act, obs: np.ndarray, name: str) -> float:
    """Compares an exported policy with the trained one.

    Args:
      act: the policy that a writer returned.
      obs: `(rows, observation_size)`.
      name: name of the format, for the message.

    Returns:
      The largest difference, as a share of half an action's range.

    Raises:
      ExportError: the difference is above `TOLERANCE`.
    """
    low, high = self.env.action_range
    gap = np.abs(act(obs) - self.live(obs)) / (high - low) * 2
    worst = float(gap.max())
    if not worst <= TOLERANCE:
      raise ExportError(
        f'{name} differs from the trained policy by {worst:.1e} on '
        f'{len(obs):,} observations'
      )
    return worst


FORMATS = ('numpy', 'stablehlo', 'onnx')
"""Names of the formats, which are the names of `Exporter`'s writers."""


def require(*packages: str) -> None:
  """Checks that the packages which a format needs are installed.

  Raises:
    ConfigError: one of them is not.
  """
  missing = [p for p in packages if importlib.util.find_spec(p) is None]
  if missing:
    raise ConfigError(
      f'this format needs {", ".join(missing)}: pip install .[export]'
    )


def stock_episodes(
  env: Env, config: Config, act: Act, seed: int, step: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
  """Plays complete episodes in stock dm_control, as a user of the files would.

  They begin like the episodes of the policy's evaluation.

  Args:
    env: a task with a stock environment.
    config: for the action repeat.
    act: the policy.
    seed: of the policy.
    step: env step of the policy.
    count: number of episodes.

  Returns:
    Undiscounted returns, `(episodes,)`, and the observation of each decision,
    `(decisions, observation_size)`.
  """
  stock: Any = env.stock_env(0)
  returns, seen = [], []
  for episode in range(count):
    seed_episode(stock, seed, step, episode)
    timestep, total = stock.reset(), 0.0
    while not timestep.last():
      seen.append(flatten_observation(timestep.observation))
      action = act(seen[-1][None])[0]
      for _ in range(config.action_repeat):
        timestep = stock.step(action)
        total += timestep.reward
        if timestep.last():
          break
    returns.append(total)
  return np.array(returns), np.stack(seen)


def actor_part(env: Env, obs: Any) -> Any:
  """The part of observations that the policy sees, and that its files take.

  Args:
    env: the environment.
    obs: `(..., observation_size)`.
  """
  return networks.seen(obs, env.actor_observation)


def _observation_parts(env: Env) -> list[tuple[str, list[int]]]:
  """Name and shape of each part of an observation, in order."""
  stock = env.stock_env(0)
  if stock is None:
    size: Any = env.observation_size
    first, end = env.actor_observation or (0, size)
    return [('observation', [int(end - first)])]
  spec = stock.observation_spec()
  return [(name, list(part.shape)) for name, part in spec.items()]
