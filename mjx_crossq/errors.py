"""The errors that the programs report in one line.

They stand in a module of their own so that `launch.cli` can name them without
importing what raises them, which loads JAX.
"""


class ConfigError(ValueError):
  """A setting that cannot work; the message says how to correct it."""


class RunError(RuntimeError):
  """A run that cannot go on; the message says what to do."""


class WriteError(RunError):
  """A file of a run could not be written."""


class OutOfMemoryError(RunError):
  """The device had no memory left; the message says what to lower."""
