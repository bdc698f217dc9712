"""The barriers between levels of the tree of bodies."""

import jax
import numpy as np
import pytest
from mujoco.mjx._src import scan, smooth

from mjx_crossq.envs.mjx import tree

from . import checks


def _kinematics(task):
  env = checks.load(task)
  run = jax.jit(lambda data: smooth.kinematics(env.model, data))
  return run.lower(env._data).compile(), env._data


def _flops(task):
  return _kinematics(task)[0].cost_analysis()['flops']


def test_work_grows_with_the_tree_not_exponentially():
  # 15 links against 6; without barriers each link repeats those before it.
  assert _flops('swimmer-swimmer15') < 4 * _flops('swimmer-swimmer6')
  assert scan.body_tree is tree.body_tree


@pytest.mark.parametrize('task', ('swimmer-swimmer6', 'humanoid-run'))
def test_barriers_change_no_number(task, monkeypatch):
  compiled, data = _kinematics(task)
  ours = compiled(data)
  monkeypatch.setattr(scan, 'body_tree', tree.body_tree.__wrapped__)
  plain, _ = _kinematics(task)
  theirs = plain(data)
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
