"""Swimmer."""

from . import checks


class TestSwimmer(checks.StockParity):
  domain = 'swimmer'
  models = ('swimmer6', 'swimmer15')
  slow = ('swimmer15',)
