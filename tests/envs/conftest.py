"""Runs the checks of a domain on each of its tasks."""

import mujoco
import pytest

from mjx_crossq import envs
from mjx_crossq.envs import suite
from tests.envs import checks


@pytest.fixture(scope='module', autouse=True)
def forget_tasks(forget_programs):
  """Tasks hold models and programs, and are of no use to other modules."""
  yield
  for cached in (checks.load, checks.records, checks.states):
    cached.cache_clear()
  suite._compiled.clear()
  mujoco.mj_clearCache(mujoco.mj_getCache())


def pytest_generate_tests(metafunc):
  domain = getattr(metafunc.cls, 'domain', None)
  if domain is None:
    return
  others = [f'{domain}-{task}' for task in metafunc.cls.others]
  tasks = [
    t for t in envs.ALL_TASKS if t.split('-')[0] == domain and t not in others
  ]

  def parametrize(name, values):
    slow = [f'{domain}-{task}' for task in metafunc.cls.slow]
    marks = {task: [pytest.mark.slow] * (task in slow) for task in values}
    metafunc.parametrize(
      name, [pytest.param(task, marks=marks[task]) for task in values]
    )

  if 'task' in metafunc.fixturenames:
    parametrize('task', tasks)
  if 'model_task' in metafunc.fixturenames:
    models = [f'{domain}-{task}' for task in metafunc.cls.models]
    parametrize('model_task', models or tasks[:1])
