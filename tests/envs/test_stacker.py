"""Stacker."""

import pytest

from . import checks

pytestmark = pytest.mark.slow


class TestStacker(checks.RoughParity):
  domain = 'stacker'
  draws = 500
