"""Seeds spread over devices: eight of them on the host, in processes apart."""

import json
import math
import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from mjx_crossq import ConfigError
from mjx_crossq.device import seeds_over_devices
from mjx_crossq.launch import cli
from tests.launch import programs


def measure(program, folder):
  """Runs a program of `programs.py` and reads what it found."""
  done = programs.run_module('tests.devices.programs', program, str(folder))
  assert done.returncode == 0, done.stderr[-3000:]
  return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope='module')
def numbers(tmp_path_factory):
  return measure('numbers', tmp_path_factory.mktemp('numbers'))


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
  return measure('checkpoints', tmp_path_factory.mktemp('checkpoints'))


@pytest.fixture(scope='module')
def faults(tmp_path_factory):
  return measure('faults', tmp_path_factory.mktemp('faults'))


@pytest.fixture(scope='module')
def population(tmp_path_factory):
  return measure('population', tmp_path_factory.mktemp('population'))


@pytest.mark.parametrize(
  ('seeds', 'devices', 'each', 'used'),
  [(5, 4, 2, 3), (7, 8, 1, 7), (3, 2, 2, 2), (8, 4, 2, 4), (1, 8, 1, 1)],
)
def test_the_least_seeds_on_each_device(seeds, devices, each, used):
  class Device:
    platform = 'cpu'

  some = [Device() for _ in range(devices)]
  placement = seeds_over_devices.place_seeds(seeds, some)
  assert len(placement.devices) == used
  assert placement.rows == each * used >= seeds


def test_one_device_moves_nothing():
  placement = seeds_over_devices.place_seeds(3)
  tree = {'x': np.zeros((3, 2))}
  assert placement.place(tree) is tree
  assert placement.without_copies(tree) is tree
  assert placement.jit_options((0,), 0) == {}
  assert placement.devices == (jax.devices()[0],)


@pytest.mark.slow
def test_a_seed_has_the_numbers_of_one_device(numbers):
  """In real physics; the checkpoints below are of simple ones."""
  assert numbers['updates'] == 21 and numbers['bound'] < 0.01
  assert numbers['placement'] == [6, 3]
  assert max(numbers['errors'].values()) < numbers['bound'], numbers['errors']
  # A whole episode makes more of the rounding.
  assert numbers['returns'] < 0.05 < numbers['other_returns']
  assert numbers['loops'] > 0 and numbers['collectives'] == []
  assert max(numbers['traces'].values()) == 1


def test_devices_do_not_talk(checkpoints):
  assert checkpoints['loops'] > 0
  assert checkpoints['collectives'] == []


def test_each_program_is_traced_once(checkpoints):
  for found in checkpoints['traces']:
    assert max(found.values()) == 1, found


def test_the_replay_is_written_in_place(checkpoints):
  assert checkpoints['aliased'] >= checkpoints['replay_of_a_device']


def test_memory_is_that_of_one_device_with_its_copies(checkpoints):
  assert checkpoints['budget'] == checkpoints['replay_of_a_device']


def test_a_benchmark_runs_on_devices(checkpoints):
  replay = checkpoints['replay_of_a_device']
  assert checkpoints['benchmarked'] == [2, True, replay]


def test_checkpoints_move_from_eight_to_three_to_one(checkpoints):
  assert checkpoints['placements'] == [[5, 5], [6, 3], [5, 1]]
  assert max(checkpoints['error'].values()) < checkpoints['bound'] < 0.05
  assert checkpoints['error']['iteration'] == 0


def test_checkpoints_hold_no_copies(checkpoints):
  whole, moved = checkpoints['stored']['whole'], checkpoints['stored']['moved']
  assert whole == moved
  assert whole[0][0] == 5 and whole[1] == []
  assert checkpoints['restored']
  assert checkpoints['replay_sharding'] == "P('seed',)"


def test_the_host_sees_no_copies(checkpoints):
  assert checkpoints['policy_rows'] and checkpoints['diagnosed']
  assert checkpoints['returns'] == [5, 2]
  shape, own, loaded, step = checkpoints['acted']
  assert shape == [5, 3, 1] and step == 80
  assert own == 0 and loaded < 1e-5


@pytest.mark.slow
def test_a_population_is_that_of_one_device(population):
  one, four = population['steps']
  assert population['rows'] == 6  # a copy among them, which is never selected
  assert one == four and len(one) >= 3
  assert any(source != [0, 1, 2, 3, 4] for _, source, _ in one)
  assert max(population['error'].values()) < population['bound'] < 0.05


@pytest.mark.slow
def test_a_frozen_seed_stops_its_device_alone(faults):
  assert max(faults['traces'].values()) == 1
  # Iteration 13 broke it; seeds 0 and 1 are on the first device.
  assert faults['apart'][0] < faults['apart'][1] == 20
  assert 'different numbers of iterations' in faults['refused']
  assert faults['in_step'] and faults['iteration'] == 20
  assert faults['frozen'] == [False, True, False]
  assert faults['others'] < 1e-4


@pytest.mark.slow
def test_broken_physics_are_found_on_their_device(faults):
  (warning,) = faults['physics']
  assert 'seed 1: physics not finite' in warning


@pytest.mark.slow
def test_the_frozen_seed_is_dumped_before_its_replay_moves_on(faults):
  (warning,) = faults['warnings']
  assert 'seed 1: an update' in warning
  seed, iteration, index = faults['dump']
  assert (seed, iteration) == (1, faults['apart'][0] - 1)
  assert index is not None and not math.isfinite(faults['dump_loss'])
  assert faults['dump_reward'] == np.float32(3e38)
  assert faults['dump_agent']


@pytest.mark.parametrize(
  ('flag', 'devices', 'memory'),
  # Two or three seeds of 2^19 decisions of nine numbers.
  [
    (['--devices=2'], 2, r'54\.0'),
    pytest.param([], 3, r'36\.0', marks=pytest.mark.slow),
  ],
)
def test_seeds_are_spread_over_cores(flag, devices, memory):
  code = (
    'from mjx_crossq.envs import runtime; runtime.cores = lambda: 4; '
    'from mjx_crossq.launch import train; train.run()'
  )
  done = subprocess.run(
    [
      *(sys.executable, '-c', code, '--task=pendulum-swingup'),
      *('--num_seeds=5', '--set=replay_capacity=1048576', '--dry_run', *flag),
    ],
    capture_output=True,
    text=True,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    check=False,
  )
  assert done.returncode == 0, done.stderr
  assert f'memory of 5 seed(s), of each of {devices} devices:' in done.stdout
  assert re.search(f'replay +{memory} MiB', done.stdout)


def test_more_devices_than_there_are_are_refused():
  assert cli.devices(None) == jax.local_devices()
  assert cli.devices(1) == jax.local_devices()[:1]
  with pytest.raises(ConfigError, match='device_count=999'):
    cli.devices(999)
