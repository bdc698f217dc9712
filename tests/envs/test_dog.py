"""Dog."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestDog(checks.StockParity):
  domain = 'dog'
  others = ('fetch',)
  models = ('run',)  # theirs differ in the size of the floor
  draws = 500
