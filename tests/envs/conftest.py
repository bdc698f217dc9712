"""Runs the checks of a domain on each of its tasks."""

import envs


def pytest_generate_tests(metafunc):
  domain = getattr(metafunc.cls, 'domain', None)
  if domain is None or 'task' not in metafunc.fixturenames:
    return
  tasks = [t for t in envs.ALL_TASKS if t.split('-')[0] == domain]
  metafunc.parametrize('task', tasks)
