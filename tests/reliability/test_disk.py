"""Disks that are full, cannot be written, or are slow."""

import logging
import os
import subprocess
import time

import pytest

from mjx_crossq import ConfigError
from mjx_crossq.errors import WriteError
from mjx_crossq.host import integrity
from mjx_crossq.host import run as loop
from mjx_crossq.host import run_files as logging_lib
from mjx_crossq.host.checkpoint import Checkpointer
from tests.reliability import runs


@pytest.fixture
def disk(tmp_path):
  """A file system of 700 KiB: room for one checkpoint, not for two."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=700k', 'tmpfs', str(folder)]
  if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
    pytest.skip('mounting is not permitted here')
  yield folder
  subprocess.run(['umount', '-l', str(folder)], check=True)


def remount(folder, option):
  command = ['mount', '-o', f'remount,{option}', str(folder)]
  subprocess.run(command, check=True)


def finish(workdir, undisturbed):
  """Goes on where there is room; nothing is lost."""
  result = runs.train(workdir)
  runs.assert_same_bits(result.state, undisturbed.state)
  assert runs.records(workdir) == runs.records(undisturbed.workdir)
  assert runs.evaluations(workdir) == runs.evaluations(undisturbed.workdir)


def test_a_full_disk_ends_the_run_and_keeps_the_last_checkpoint(
  disk, undisturbed
):
  workdir = disk / 'run'
  with pytest.raises(WriteError, match='No space left on device') as error:
    loop.train(runs.config(), runs.env(), workdir=workdir, report=runs.quiet)
  assert '\n' not in str(error.value) and '--resume' in str(error.value)
  newest = integrity.newest_intact(workdir / 'checkpoints', report=runs.quiet)
  assert newest is not None and newest < runs.WHOLE
  # It would log an error of each array when the process ends.
  assert not logging.getLogger('asyncio').isEnabledFor(logging.ERROR)
  remount(disk, 'size=16m')
  finish(workdir, undisturbed)


def test_a_read_only_disk_is_refused_at_once(disk):
  remount(disk, 'ro')
  with pytest.raises(ConfigError, match=r'cannot write to .*Read-only'):
    loop.train(
      runs.config(), runs.env(), workdir=disk / 'run', report=runs.quiet
    )


def test_records_that_cannot_be_written_end_the_run(
  tmp_path, undisturbed, monkeypatch
):
  """The state is saved first, and the record is made up for later."""
  calls = []
  append = logging_lib.append

  def full(file, text):
    calls.append(text)
    if len(calls) < 4:
      return append(file, text)
    file.write(text[: len(text) // 2])  # torn
    file.flush()
    raise WriteError('cannot write: No space left on device')

  workdir = tmp_path / 'run'
  lines = []
  with monkeypatch.context() as patch, pytest.raises(WriteError, match='space'):
    patch.setattr(logging_lib, 'append', full)
    loop.train(runs.config(), runs.env(), workdir=workdir, report=lines.append)
  assert any('all is saved' in line for line in lines)
  newest = integrity.saved(workdir / 'checkpoints')[-1]
  assert newest % runs.SAVE  # between two checkpoints: nothing is done twice
  finish(workdir, undisturbed)


def test_a_disk_slower_than_the_run_loses_nothing(
  tmp_path, undisturbed, monkeypatch
):
  """A save waits for the one before it; training goes on meanwhile."""
  original, saving, trained = Checkpointer._finish, [], []

  def slow(self, step):
    saving.append(step)
    time.sleep(2)
    original(self, step)
    saving.remove(step)

  def report(line):
    if 'env steps |' in line and saving:
      trained.append(line)

  monkeypatch.setattr(Checkpointer, '_finish', slow)
  workdir = tmp_path / 'run'
  result = loop.train(runs.config(), runs.env(), workdir=workdir, report=report)
  assert trained and not saving
  steps = integrity.saved(workdir / 'checkpoints')
  assert steps == list(range(runs.SAVE, runs.WHOLE + 1, runs.SAVE))
  assert not any(
    integrity.fault(workdir / 'checkpoints' / str(step)) for step in steps
  )
  runs.assert_same_bits(result.state, undisturbed.state)
  assert runs.records(workdir) == runs.records(undisturbed.workdir)
