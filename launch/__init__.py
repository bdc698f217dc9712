"""Command-line programs: `python -m launch.train --help`."""
