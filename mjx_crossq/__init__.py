"""Weight-normalised CrossQ for continuous control, on the device.

import envs
from mjx_crossq import from_preset, train

config = from_preset('crossq_wn', task='cheetah-run', num_seeds=10)
result = train(config, envs.load(config.task), workdir='runs/cheetah')
"""

# First of all: it prepares the process for JAX (envs/runtime.py).
import envs.base  # noqa: F401  isort: skip

from mjx_crossq.agent import Agent
from mjx_crossq.checkpoint import load_policy
from mjx_crossq.config import Config, ConfigError, from_preset
from mjx_crossq.loop import Result, train
from mjx_crossq.runner import Runner
from mjx_crossq.states import AgentState, Transition
from mjx_crossq.trainer import Trainer, TrainState

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
  'from_preset',
  'load_policy',
  'train',
]
