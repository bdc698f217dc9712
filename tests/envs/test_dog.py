"""Dog."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestDog(checks.StockParity):
  domain = 'dog'
  others = ('fetch',)
  models = ('run',)  # theirs differ in the size of the floor
  draws = 500


class TestFetch(checks.RoughParity):
  """Its dynamics are in test_warp.py: with MJX nothing touches the target."""

  domain = 'dog'
  others = ('stand', 'walk', 'trot', 'run')
  draws = 500
