"""Runs on a pool of few threads end; test_threads.py says what hung."""

import os
import subprocess
import sys

import pytest

# test_threads.py finds what hung in every program. Runs look for what else may
# hang, most of them where one takes least.
_RUNS = {'cartpole-swingup': 50, 'finger-spin': 10, 'humanoid-run': 10}


@pytest.mark.slow
@pytest.mark.parametrize('threads', [1, 2])
@pytest.mark.parametrize('devices', [1, 2, 4])
@pytest.mark.parametrize(
  'task', ['cartpole-swingup', 'finger-spin', 'humanoid-run']
)
def test_a_small_pool_does_not_hang(task, devices, threads):
  flags = f'--xla_force_host_platform_device_count={devices}'
  done = subprocess.run(
    [sys.executable, '-m', 'tests.reliability.threads', task, str(_RUNS[task])],
    env={**os.environ, 'PJRT_NPROC': str(threads), 'XLA_FLAGS': flags},
    capture_output=True,
    text=True,
    timeout=1800,
    check=False,
  )
  assert done.returncode == 0, done.stderr[-3000:]
