"""Processes that were forked after JAX had started, in which it would hang."""

import os
import sys

_forked = False


def _note() -> None:
  global _forked
  bridge = sys.modules.get('jax._src.xla_bridge')
  started = getattr(bridge, 'backends_are_initialized', lambda: False)
  _forked = _forked or bool(started())


if hasattr(os, 'register_at_fork'):  # not on Windows
  os.register_at_fork(after_in_child=_note)


def forked() -> bool:
  """Whether this process is a fork of one in which JAX had started."""
  return _forked


def check() -> None:
  """Refuses to go on where JAX would wait for threads that do not exist.

  Raises:
    RuntimeError: this process is a fork of one in which JAX had started.
  """
  if _forked:
    raise RuntimeError(
      'JAX had started before this process was forked, and would hang here: '
      "start processes by spawn, AsyncVectorEnv(..., context='spawn') or "
      "make_vec(..., vector_kwargs={'context': 'spawn'}); or take "
      'mjx_crossq.envs.vector.VectorEnv, which needs no processes'
    )
