"""A trained policy: loaded, exported, recorded and shown."""
