"""Settings of every test process, made before JAX starts."""

import os
from pathlib import Path

# Both workers and the processes they start share compiled programs.
_CACHE = Path(__file__).resolve().parent.parent / '.jax_cache'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_CACHE))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')
os.environ.setdefault('MUJOCO_GL', 'disabled')

from mjx_crossq import envs  # noqa: E402, F401  prepares the process for JAX
