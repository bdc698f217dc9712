"""A module that fails where it is imported."""

VALUE = 1 / 0
