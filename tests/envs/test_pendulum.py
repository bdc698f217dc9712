"""Pendulum."""

from . import checks


class TestPendulum(checks.StockParity):
  domain = 'pendulum'
  step_bound = 1e-6
  v1 = (2e-7, 1e-6)
  v25 = (3e-6, 1e-5)
