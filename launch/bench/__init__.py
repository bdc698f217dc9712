"""The measurements of `launch.benchmark`."""
