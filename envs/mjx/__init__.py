"""Physics by MJX, with corrections where it differs from C."""
