"""Damaged entries of the compilation cache are removed, and written again.

JAX warns of an entry that it cannot read, compiles, and then leaves the file
as it is, because there is one of this name: every later start does the same.
A process that is killed while it writes an entry leaves such a file.
"""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


@functools.cache
def install() -> None:
  """Makes JAX remove entries that it cannot read, in this process."""
  import jax
  from jax._src import compilation_cache

  read: Callable[..., tuple] = compilation_cache.get_executable_and_time

  def read_or_remove(cache_key: str, *args: Any, **kwargs: Any) -> tuple:
    try:
      return read(cache_key, *args, **kwargs)
    except Exception as error:
      folder: Any = jax.config.jax_compilation_cache_dir  # pyright: ignore
      path = Path(folder) / f'{cache_key}-cache'
      try:
        path.unlink()
      except OSError:  # no such file, or no right to remove it
        raise error from None
      print(
        f'a damaged entry of the compilation cache is made anew: {path}',
        file=sys.stderr,
      )
      return None, None

  compilation_cache.get_executable_and_time = read_or_remove
