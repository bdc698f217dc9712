"""Dog."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestDog(checks.RoughParity):
  domain = 'dog'
  draws = 500
