"""Runs as processes: which are missing, where they run, what became of them."""
