"""Stacker."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestTwo(checks.StockParity):
  domain = 'stacker'
  others = ('stack_4',)
  draws = 500


class TestFour(checks.StockParity):
  domain = 'stacker'
  others = ('stack_2',)
  draws = 500
