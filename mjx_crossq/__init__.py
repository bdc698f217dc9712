"""Weight-normalised CrossQ for continuous control, on the device.

from mjx_crossq import envs, from_preset, train

config = from_preset('crossq_wn', task='cheetah-run', num_seeds=10)
result = train(config, envs.load(config.task), workdir='runs/cheetah')

Names are imported at their first use, so that importing the package is quick
and loads neither JAX nor MuJoCo.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mjx_crossq import envs

if TYPE_CHECKING:
  from mjx_crossq.config import Config, from_preset
  from mjx_crossq.device.runner import Runner
  from mjx_crossq.device.trainer import Trainer, TrainState
  from mjx_crossq.errors import ConfigError
  from mjx_crossq.host.loop import Result
  from mjx_crossq.host.run import train
  from mjx_crossq.learner.agent import Agent
  from mjx_crossq.learner.states import AgentState, Transition
  from mjx_crossq.policy.loading import load_policy

__version__ = '0.1.0'
__all__ = [
  'Agent',
  'AgentState',
  'Config',
  'ConfigError',
  'Result',
  'Runner',
  'TrainState',
  'Trainer',
  'Transition',
  'envs',
  'from_preset',
  'load_policy',
  'train',
]

_HOMES = {
  'Agent': 'learner.agent',
  'AgentState': 'learner.states',
  'Config': 'config',
  'ConfigError': 'errors',
  'Result': 'host.loop',
  'Runner': 'device.runner',
  'TrainState': 'device.trainer',
  'Trainer': 'device.trainer',
  'Transition': 'learner.states',
  'from_preset': 'config',
  'load_policy': 'policy.loading',
  'train': 'host.run',
}


def __getattr__(name: str) -> Any:
  """Imports a public name from its module (PEP 562)."""
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  value = getattr(importlib.import_module(f'{__name__}.{_HOMES[name]}'), name)
  globals()[name] = value
  return value


def __dir__() -> list[str]:
  return __all__
