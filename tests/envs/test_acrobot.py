"""Acrobot."""

from . import checks


class TestAcrobot(checks.StockParity):
  domain = 'acrobot'
  slow = ('swingup_sparse',)
