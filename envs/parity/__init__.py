"""Measurements against stock dm_control, and the bounds that they must keep."""
