"""Manipulator."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestManipulator(checks.StockParity):
  domain = 'manipulator'
  # Not insert_peg, which is marked.
  models = ('bring_ball', 'bring_peg', 'insert_ball')
  draws = 500
