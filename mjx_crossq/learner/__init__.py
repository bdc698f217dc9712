"""The method: agent, networks, optimisers.

Written for one seed; knows no environment.
"""
