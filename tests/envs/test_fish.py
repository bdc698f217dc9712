"""Fish."""

from . import checks


class TestFish(checks.StockParity):
  domain = 'fish'
  models = ('swim',)
  slow = ('upright',)
