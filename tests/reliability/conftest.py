"""What several modules of these tests share in a process."""

import pytest

from mjx_crossq import Runner
from mjx_crossq.host import run as loop
from tests.reliability import runs


@pytest.fixture(scope='session')
def undisturbed(tmp_path_factory):
  """The whole run; its `workdir` is not to be changed."""
  return runs.train(tmp_path_factory.mktemp('undisturbed') / 'run')


@pytest.fixture(scope='module', autouse=True)
def shared_programs():
  """The runs of a module that differ in `HOST_FIELDS` only compile once.

  `test_programs.py` shows that these fields are no part of the programs.
  """
  first: dict[tuple, Runner] = {}

  class Shared(Runner):
    def __init__(self, config, env, devices=None, **options):
      super().__init__(config, env, devices, **options)
      fields = config.to_dict()
      same = {k: v for k, v in fields.items() if k not in runs.HOST_FIELDS}
      key = tuple(map(str, (same, type(env), vars(env), devices, options)))
      other = first.setdefault(key, self)
      for name in runs.PROGRAMS:
        setattr(self, name, getattr(other, name))
      self.traces = other.traces

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(loop, 'Runner', Shared)
    yield
