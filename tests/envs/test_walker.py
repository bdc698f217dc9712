"""Walker."""

from . import checks


class TestWalker(checks.StockParity):
  domain = 'walker'
  step_bound = 6e-5
  v1 = (8e-6, 1.5e-4)
  v_control = (2e-5, 8e-4)
  # 99 % is above physics.md's 4e-4: a third of these states begin upright.
  v25 = (5e-5, 4e-3)
