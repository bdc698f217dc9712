"""Hours of training: SOAK_MINUTES=120 pytest tests/reliability/test_soak.py."""

import os
import time

import numpy as np
import pytest

from mjx_crossq import loop
from tests.reliability import runs

MINUTES = float(os.environ.get('SOAK_MINUTES', '0'))


@pytest.mark.slow
@pytest.mark.skipif(not MINUTES, reason='only with SOAK_MINUTES=...')
def test_memory_and_open_files_do_not_grow(tmp_path):
  samples, times = [], []
  end = time.monotonic() + 60 * MINUTES

  class OverError(Exception):
    """The time is up."""

  def sample(line):
    if 'env steps |' in line:
      with open('/proc/self/statm') as file:
        resident = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
      times.append(time.monotonic())
      samples.append((resident, len(os.listdir('/proc/self/fd'))))
    if time.monotonic() > end:
      raise OverError

  config = runs.config(
    env_steps=2_000_000_000,
    log_every=2_000,
    eval_every=10_000,
    checkpoint_every=10_000,
  )
  with pytest.raises(OverError):
    loop.train(config, runs.env(), tmp_path / 'run', report=sample)
  # The first fifth warms up: compilers, caches, the first saves.
  resident, files = np.array(samples[len(samples) // 5 :]).T
  half = len(resident) // 2
  early, late = np.median(resident[:half]), np.median(resident[half:])
  # A save in progress holds files open, so the median and not the largest.
  opened = np.median(files[:half]), np.median(files[half:])
  tenths = ' '.join(
    f'{np.median(part) / 2**20:.0f}' for part in np.array_split(resident, 10)
  )
  print(f'{len(samples)} samples; MiB by tenths {tenths}; files {opened}')
  seconds = np.diff(times[len(times) // 5 :])
  print(
    f'seconds a log point: {np.median(seconds[:half]):.3f} -> '
    f'{np.median(seconds[half:]):.3f}'
  )
  assert late < 1.05 * early
  assert opened[1] <= opened[0] + 2
