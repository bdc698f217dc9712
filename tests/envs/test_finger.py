"""Finger."""

from . import checks


class TestFinger(checks.StockParity):
  domain = 'finger'
  models = ('spin', 'turn_hard')
  slow = ('spin', 'turn_easy')
