"""Stacker."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestStacker(checks.StockParity):
  domain = 'stacker'
  models = ('stack_2', 'stack_4')
  draws = 500
