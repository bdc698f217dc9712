"""What the processes of `programs.py` have imported when they begin."""

import gc
import os

os.environ['MUJOCO_GL'] = 'disabled'

import jax  # noqa: F401
import matplotlib.pyplot  # noqa: F401
from absl import app, flags  # noqa: F401

import mjx_crossq.envs.suite
import mjx_crossq.host.run
import mjx_crossq.policy.export
import mjx_crossq.policy.recording
import mjx_crossq.results.figures  # noqa: F401

gc.freeze()
