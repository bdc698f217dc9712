"""Point mass."""

from . import checks


class TestPointMass(checks.StockParity):
  domain = 'point_mass'
  models = ('easy', 'hard')
