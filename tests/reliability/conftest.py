"""What several modules of these tests share in a process."""

import pytest

from tests.reliability import runs


@pytest.fixture(scope='session')
def undisturbed(tmp_path_factory):
  """The whole run; its `workdir` is not to be changed."""
  return runs.train(tmp_path_factory.mktemp('undisturbed') / 'run')
