"""Pendulum."""

from . import checks


class TestPendulum(checks.StockParity):
  domain = 'pendulum'
