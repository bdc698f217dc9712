"""dog-fetch, whose model has a ball and a target."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestFetch(checks.StockParity):
  domain = 'dog'
  others = ('stand', 'walk', 'trot', 'run')
  models = ('fetch',)
  draws = 500
