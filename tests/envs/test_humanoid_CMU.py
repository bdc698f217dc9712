"""The humanoid of the CMU motion data."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestHumanoidCMU(checks.StockParity):
  domain = 'humanoid_CMU'
  draws = 500
