"""Chooses the OpenGL backend of MuJoCo before MuJoCo is imported."""

import logging
import os
import subprocess
import sys
from typing import Any

from mjx_crossq.envs import processes

_PROBE = """
import mujoco
renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8)
renderer.render()
renderer.close()
print('works')
"""

_ADVICE = (
  'install EGL (Debian, Ubuntu: apt-get install libegl1, on NVIDIA GPUs the '
  'driver brings it) or OSMesa (libosmesa6)'
)
_OFF = ('disable', 'disabled', 'off', 'false', '0')


def choose() -> str:
  """Sets `MUJOCO_GL` to a backend that works on this machine.

  A value that the user has set is kept. Each backend is tried in a separate
  process that imports only MuJoCo, because a driver may crash the process, and
  PyOpenGL cannot change the backend once it has loaded one.

  Returns:
    The error in one line that says what to do; '' if a backend works.
  """
  logging.getLogger('OpenGL').setLevel(logging.WARNING)
  given = os.environ.get('MUJOCO_GL', '').lower().strip()
  if given in _OFF:
    return f'MUJOCO_GL={given} switches rendering off; unset it'
  if given:
    if _works(given):
      return ''
    return f'MUJOCO_GL={given} does not work here; unset it, or {_ADVICE}'
  candidates = ['egl', 'osmesa', 'glfw']
  if not sys.platform.startswith('linux'):
    candidates = ['glfw']
  for backend in candidates:
    if _works(backend):
      os.environ['MUJOCO_GL'] = backend
      return ''
  return f'no OpenGL to draw with (tried {", ".join(candidates)}); {_ADVICE}'


def choose_at_first_picture() -> None:
  """Makes dm_control take the backend of `choose` when it first draws.

  Without `MUJOCO_GL`, dm_control takes GLFW wherever its library is installed,
  also where there is no display. The choice takes a second or more, and most
  processes never draw. A value that the user has set is kept.
  """
  from dm_control import _render

  if os.environ.get('MUJOCO_GL') or _render.Renderer is _chosen:
    return
  _render.Renderer = _chosen


def _chosen(*args: Any, **kwargs: Any) -> Any:
  """dm_control's renderer, of the backend that works here."""
  from dm_control import _render

  if wrong := choose():
    raise RuntimeError(wrong)
  backend = os.environ['MUJOCO_GL']
  _render.Renderer = getattr(_render, f'_import_{backend}')()
  return _render.Renderer(*args, **kwargs)


def _works(backend: str) -> bool:
  try:
    done = subprocess.run(
      [sys.executable, '-c', _PROBE],
      env=processes.variables() | {'MUJOCO_GL': backend},
      capture_output=True,
      text=True,
      timeout=60,
      check=False,
    )
  except subprocess.TimeoutExpired:
    return False
  return 'works' in done.stdout.split()
