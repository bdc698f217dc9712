"""Finger."""

from . import checks


class TestFinger(checks.StockParity):
  domain = 'finger'
  models = ('spin', 'turn_easy')
