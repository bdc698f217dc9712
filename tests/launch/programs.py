"""Runs a program of `launch` as users do."""

import subprocess
import sys


def run(program, *flags):
  return subprocess.run(
    [sys.executable, '-m', f'launch.{program}', *flags],
    capture_output=True,
    text=True,
    check=False,
  )
