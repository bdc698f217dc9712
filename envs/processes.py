"""The environment of Python processes that a program starts."""

import os
import sys
from collections.abc import Mapping


def variables(base: Mapping[str, str] | None = None) -> dict[str, str]:
  """Environment variables with which a child imports what this process does.

  Python puts the current folder first where a module is started by `-m` or
  `-c`, so that folders there with the names of packages would be imported in
  their place; a program that was started by its script does not see them.

  Args:
    base: the variables to begin with; None for those of this process.
  """
  paths = [os.path.abspath(path) for path in sys.path]
  own = {'PYTHONPATH': os.pathsep.join(paths), 'PYTHONSAFEPATH': '1'}
  return {**(os.environ if base is None else base), **own}
