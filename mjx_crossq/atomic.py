"""Files that are replaced as a whole: a reader finds the old or the new one."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mjx_crossq.errors import WriteError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
  """A new file beside `path`, which takes its place when the context ends.

  If the context raises, the new file is removed and `path` stays as it is.

  Args:
    path: the file; its folder is created if it does not exist.

  Raises:
    WriteError: the operating system refused, for instance on a full disk.
  """
  draft = path.with_name(path.name + '.partial')
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    yield draft
    os.replace(draft, path)
  except OSError as error:
    raise WriteError(
      f'cannot write {path}: {error.strerror or error}'
    ) from error
  finally:
    with contextlib.suppress(OSError):
      draft.unlink()


def replace_text(path: Path, text: str) -> None:
  """Replaces a file by a text in UTF-8, as `replacing` does.

  Args:
    path: the file.
    text: its new content.

  Raises:
    WriteError: the operating system refused, for instance on a full disk.
  """
  with replacing(path) as draft:
    draft.write_text(text, encoding='utf-8')
