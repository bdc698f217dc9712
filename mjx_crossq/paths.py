"""Paths that a user gives: `~` is expanded, and URLs are refused."""

import os
import re

from mjx_crossq.errors import ConfigError

# `Path` makes one slash of two; a drive of Windows has one letter.
_URL = re.compile(r'[A-Za-z][A-Za-z0-9+.-]+:/')


def local(path: str | os.PathLike[str]) -> str:
  """A path with `~` and `~user` replaced by the home folder.

  Args:
    path: of a file or folder, or a pattern.

  Raises:
    ConfigError: it is a URL, or there is no such user.
  """
  text = os.fspath(path)
  if _URL.match(text):
    raise ConfigError(
      f'{text} is a URL, and only files of this machine are read and written; '
      'mount or copy it, and give the folder'
    )
  expanded = os.path.expanduser(text)
  if expanded.startswith('~'):
    raise ConfigError(
      f'{text} names the home of a user that is unknown here; write ./{text} '
      'for a folder of this name'
    )
  return expanded
