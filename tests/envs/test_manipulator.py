"""Manipulator."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestManipulator(checks.StockParity):
  domain = 'manipulator'
  models = ('bring_ball', 'bring_peg', 'insert_ball', 'insert_peg')
  draws = 500
