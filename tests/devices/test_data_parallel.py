"""One seed divided over devices: eight of them on the host."""

import jax
import pytest

from mjx_crossq import ConfigError, Runner
from tests.devices.test_seeds_on_devices import measure
from tests.reliability import runs


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  return measure('data_parallel', tmp_path_factory.mktemp('divided'))


@pytest.mark.parametrize('devices', ['2', '4', '8'])
@pytest.mark.slow
def test_an_update_is_that_of_one_device(found, devices):
  """Parameters, optimisers, running statistics and metrics."""
  assert found['update'][devices] < 1e-5
  assert found['updates'][devices] < 1e-4  # six of them
  assert found['reduced'][devices]


@pytest.mark.slow
def test_a_run_is_that_of_one_device(found):
  assert max(found['run'].values()) < found['bound'] < 0.05, found['run']
  assert found['returns'] < found['bound']
  assert max(found['traces'].values()) == 1


@pytest.mark.slow
def test_a_checkpoint_goes_from_one_device_to_four_and_back(found):
  assert found['moved'] < found['bound']
  assert found['restored'] < found['bound']


@pytest.mark.slow
def test_replay_and_environments_are_divided(found):
  assert found['specs'] == {
    'replay': "P(None, None, 'data')",
    'env': "P(None, 'data')",
  }
  # Seven numbers in a row are eight, two on each device.
  assert found['replay_of_a_device'] == found['replay'] // 7 * 2
  assert found['budget'] == found['replay_of_a_device']


@pytest.mark.slow
def test_the_replay_is_never_gathered_nor_copied(found):
  assert found['largest'] < found['replay_of_a_device'] / 4
  assert found['aliased'] >= found['replay_of_a_device']
  assert found['temporary'] < found['replay_of_a_device']


def test_what_cannot_be_divided_is_refused():
  devices = jax.devices()[:1] * 3
  with pytest.raises(ConfigError, match='for one seed'):
    Runner(runs.config(num_seeds=2), runs.env(), devices, data_parallel=True)
  with pytest.raises(ConfigError, match='batch_size=16 cannot be divided'):
    Runner(runs.config(num_seeds=1), runs.env(), devices, data_parallel=True)
