"""The host's part of a run: start chunks, log, evaluate, checkpoint, stop."""
