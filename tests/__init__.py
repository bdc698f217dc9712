"""Tests; what is set here holds in the processes that they start too."""

import gc

# As in the programs (`launch.cli.run`), and before anything large is imported.
gc.set_threshold(50_000, 20, 20)
