"""How much memory a process has."""

import os


def resident() -> int:
  """Memory of this process in bytes; 0 on systems without /proc."""
  if not os.path.exists('/proc/self/statm'):
    return 0
  with open('/proc/self/statm') as file:
    return int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
