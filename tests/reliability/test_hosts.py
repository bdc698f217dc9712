"""`launch.train --distributed`: several processes on this machine."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from mjx_crossq import ConfigError
from mjx_crossq.host import integrity
from mjx_crossq.host import run_files as logging
from mjx_crossq.launch import hosts
from mjx_crossq.launch.jobs import merging
from mjx_crossq.results import curves
from tests.reliability import runs

SEEDS = 5


def free_port():
  with socket.socket() as sock:
    sock.bind(('127.0.0.1', 0))
    return sock.getsockname()[1]


def command(workdir, *flags, env_steps=runs.WHOLE):
  return [
    sys.executable,
    '-m',
    'tests.reliability.program',
    f'--workdir={workdir}',
    f'--env_steps={env_steps}',
    *flags,
  ]


def start(workdir, count, *flags, which=None, coordinator=None, **changes):
  """The processes of a run; `which` of them, all if None."""
  coordinator = coordinator or f'--coordinator=127.0.0.1:{free_port()}'
  return [
    subprocess.Popen(
      [
        *command(workdir, *flags, **changes),
        '--distributed',
        f'--num_seeds={SEEDS}',
        coordinator,
        f'--num_processes={count}',
        f'--process_id={index}',
        '--heartbeat_timeout=10',
        '--start_timeout=120',
      ],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )
    for index in (range(count) if which is None else which)
  ]


def finish(processes, code=0):
  """Their outputs; each must end with the code."""
  outputs = [process.communicate(timeout=1200) for process in processes]
  for process, (out, errors) in zip(processes, outputs, strict=True):
    assert process.returncode == code, out + errors
  return outputs


def alone(workdir, seed, count, *flags, **changes):
  """A run of a block of seeds in a process of its own."""
  done = subprocess.run(
    [
      *command(workdir, *flags, **changes),
      f'--seed={seed}',
      f'--num_seeds={count}',
    ],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr


def merged(parts, read):
  """Records of several runs in the order of one."""
  return sorted(
    itertools.chain(*(read(part) for part in parts)),
    key=lambda r: (r['env_step'], r['seed']),
  )


def evaluations(workdir):
  header, *rows = runs.evaluations(workdir)
  return [dict(zip(header, map(str, row), strict=True)) for row in rows]


@pytest.fixture(scope='module')
def blocks(tmp_path_factory):
  """The seeds of two processes, 3 and 2, each as an ordinary run."""
  folder = tmp_path_factory.mktemp('alone')
  for index, (seed, count) in enumerate(((0, 3), (3, 2))):
    alone(folder / str(index), seed, count)
  return [folder / '0', folder / '1']


def assert_is_one_run(workdir, blocks):
  """The folder has what the blocks have, bit for bit, as one run."""
  assert runs.records(workdir) == merged(blocks, runs.records)
  ours, parts = evaluations(workdir), map(evaluations, blocks)
  assert ours == sorted(
    itertools.chain(*parts),
    key=lambda r: [int(r[name]) for name in ('env_step', 'seed', 'episode')],
  )
  run = curves.Run.read(workdir)
  assert run.config.num_seeds == SEEDS and run.config.seed == 0
  assert [*run.returns()] == list(range(SEEDS))
  picture = (workdir / 'learning_curve.png').read_bytes()
  assert picture.startswith(b'\x89PNG')


@pytest.fixture(scope='module')
def two(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('two') / 'run'
  return workdir, finish(start(workdir, 2))


def test_two_processes_make_one_run(two, blocks):
  workdir, outputs = two
  assert_is_one_run(workdir, blocks)
  for index, (block, (out, errors)) in enumerate(
    zip(blocks, outputs, strict=True)
  ):
    assert not errors
    assert f'process {index}: run directory:  {workdir}' in out
    part = hosts.folder(workdir, index)
    steps = [40, 80, 120]
    assert integrity.saved(part / 'checkpoints') == steps
    # Each has the files of an ordinary run of its seeds.
    assert runs.records(part) == runs.records(block)
    assert runs.evaluations(part) == runs.evaluations(block)


def test_other_settings_are_refused_by_name(tmp_path):
  first = start(tmp_path / 'run', 2, which=[0])
  port = next(a for a in first[0].args if a.startswith('--coordinator'))
  second = start(tmp_path / 'run', 2, '--utd=3', which=[1], coordinator=port)
  ((_, errors),) = finish(second, code=2)
  line = 'process 1 was given other settings than process 0: utd (2 there, 3'
  assert errors.startswith(f'error: {line}') and errors.count('\n') == 1
  ((_, errors),) = finish(first, code=1)
  assert line in errors and errors.count('\n') == 1
  assert not (tmp_path / 'run' / 'process-0').exists()


def test_as_many_processes_go_on_as_began(two):
  workdir, _ = two
  before = {p: p.stat().st_mtime_ns for p in workdir.rglob('*')}
  ((_, errors),) = finish(start(workdir, 1, '--resume'), code=2)
  assert f'{workdir} was started by 2 processes, not 1' in errors
  assert errors.count('\n') == 1
  changed = {p for p in before if p.stat().st_mtime_ns != before[p]}
  assert changed <= {workdir, workdir / '.lock'}
  ((_, errors),) = finish(start(workdir, 1), code=2)
  assert 'already holds a run; add --resume' in errors


def wait_for(process, words):
  for line in process.stdout:
    if words in line:
      return
  raise AssertionError(f'{words!r} never came: {process.stderr.read()}')


OFTEN = ('--checkpoint_every=2000', '--log_every=1000', '--eval_every=2000')


@pytest.mark.slow
@pytest.mark.parametrize(('count', 'killed'), [(2, 1), (4, 2), (4, 0)])
def test_a_killed_process_ends_the_run_which_goes_on(tmp_path, count, killed):
  """One of them is killed while all train; 0 has jax's service beside it."""
  workdir = tmp_path / 'run'
  processes = start(workdir, count, *OFTEN, env_steps=10**7)
  for process in processes:
    wait_for(process, '   4,000 / ')
  processes[killed].send_signal(signal.SIGKILL)
  processes[killed].communicate()
  began = time.monotonic()
  others = [p for i, p in enumerate(processes) if i != killed]
  outputs = finish(others, code=1)
  # At once by the word of the killed one's helper; 10 s by heartbeats.
  assert time.monotonic() - began < 90
  for out, errors in outputs:
    assert 'all is saved' in out and f'--workdir={workdir} --resume' in out
    assert errors.count('\n') == 1 and errors.startswith('error: the distr')
    assert f'process {killed} has ended' in errors or 'is lost' in errors
    assert hosts.AGAIN in errors
  # Where they were stopped differs; the end does not.
  reached = max(
    max(integrity.saved(hosts.folder(workdir, i) / 'checkpoints'), default=0)
    for i in range(count)
  )
  total = -(-reached // 2000) * 2000 + 2000
  finish(start(workdir, count, '--resume', *OFTEN, env_steps=total))
  seeds = [(r['seed'], r['env_step']) for r in runs.records(workdir)]
  assert seeds == [
    (seed, step)
    for step in range(1000, total + 1, 1000)
    for seed in range(SEEDS)
  ]
  cells = [(r['seed'], r['env_step']) for r in evaluations(workdir)]
  assert len(cells) == len(set(cells)) * 2 == SEEDS * 2 * (total // 2000)
  # What was killed and resumed has the bits of what was not.
  block = lonely(killed, count).block(runs.config(num_seeds=SEEDS))
  alone(
    tmp_path / 'alone', block.seed, block.num_seeds, *OFTEN, env_steps=total
  )
  part = hosts.folder(workdir, killed)
  assert runs.records(part) == runs.records(tmp_path / 'alone')
  assert runs.evaluations(part) == runs.evaluations(tmp_path / 'alone')


# ------------------------------------------------------------- without others


def lonely(process, count):
  """A process that has nobody to talk to."""
  found = hosts.Hosts.__new__(hosts.Hosts)
  found.process, found.count, found.failure = process, count, None
  return found


def test_more_processes_than_seeds_are_refused():
  with pytest.raises(ConfigError, match='6 processes cannot share num_seeds=5'):
    lonely(0, 6).agree(runs.config(num_seeds=5))


def test_blocks_of_seeds():
  config = runs.config(num_seeds=5)
  found = [lonely(index, 3).block(config) for index in range(3)]
  assert [(c.seed, c.num_seeds) for c in found] == [(0, 2), (2, 2), (4, 1)]


def test_a_folder_that_is_not_shared_is_refused(tmp_path, monkeypatch):
  monkeypatch.setattr(hosts, '_SECONDS_TO_SEE', 0.3)
  path = tmp_path / 'processes.json'
  with pytest.raises(ConfigError, match='on a disk that they share'):
    lonely(1, 2)._see(path, 'token')
  path.write_text(json.dumps({'num_processes': 2, 'start': 'old'}))
  with pytest.raises(ConfigError, match='on a disk that they share'):
    lonely(1, 2)._see(path, 'token')
  path.write_text(json.dumps({'num_processes': 2, 'start': 'token'}))
  lonely(1, 2)._see(path, 'token')


def test_records_come_in_the_order_of_one_run(tmp_path):
  config = runs.config(num_seeds=3)
  parts = [tmp_path / name for name in 'ab']
  for part, seeds in zip(parts, ((0, 1), (2,)), strict=True):
    part.mkdir()
    header = ','.join(logging.EVAL_HEADER) + '\n'
    (part / 'eval.csv').write_text(
      header
      + ''.join(
        f'{seed},{step},{physics},0,1.5\n'
        for step in (90, 100)
        for physics in ('mjx', 'dm_control')
        for seed in seeds
      )
    )
    (part / 'metrics.jsonl').write_text(
      ''.join(
        json.dumps({'seed': seed, 'env_step': step}) + '\n'
        for step in (90, 100)
        for seed in seeds
      )
    )
  merging.merge(tmp_path, config, parts)
  assert [r['seed'] for r in runs.records(tmp_path)] == [0, 1, 2, 0, 1, 2]
  rows = [row[:3] for row in runs.evaluations(tmp_path)[1:]]
  assert rows == [
    [str(seed), step, physics]
    for step in ('90', '100')
    for physics in ('mjx', 'dm_control')
    for seed in (0, 1, 2)
  ]
  assert curves.Run.read(tmp_path).config == config
