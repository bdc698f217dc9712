"""Walker."""

from . import checks


class TestWalker(checks.StockParity):
  domain = 'walker'
