"""Checkpoints that were damaged, half deleted, or made by another version."""

import json
import shutil
import subprocess

import jax
import pytest

from mjx_crossq import ConfigError, Runner, load_policy
from mjx_crossq.errors import WriteError
from mjx_crossq.host import checkpoint as checkpoint_lib
from mjx_crossq.host import integrity
from mjx_crossq.host import run as loop
from mjx_crossq.host.checkpoint import Checkpointer
from tests.reliability import runs

STEPS = [40, 80, 120]


@pytest.fixture
def run(undisturbed):
  return undisturbed.workdir, undisturbed


@pytest.fixture
def copy(run, tmp_path):
  shutil.copytree(run[0], tmp_path / 'copy')
  return tmp_path / 'copy'


def truncate(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
  path.write_bytes(b'')


def flip(path):
  """One bit in the middle."""
  content = bytearray(path.read_bytes() or b'\0')
  content[len(content) // 2] ^= 4
  path.write_bytes(content)


def delete(path):
  path.unlink()


DAMAGES = [truncate, empty, flip, delete]


def files(folder):
  return sorted(p for p in folder.rglob('*') if p.is_file())


@pytest.mark.parametrize('damage', DAMAGES)
def test_damage_of_any_file_is_seen_and_the_older_one_taken(copy, damage):
  folder = copy / 'checkpoints'
  assert integrity.saved(folder) == STEPS
  names = files(folder / '120')
  assert len(names) > 30
  tried = 0
  for path in names:
    content = path.read_bytes()
    if damage in (truncate, empty) and not content:
      continue  # it was empty before
    damage(path)
    lines = []
    assert integrity.newest_intact(folder, report=lines.append) == 80, path
    assert len(lines) == 1 and 'env step 120 is damaged' in lines[0]
    assert 'taking the one at 80' in lines[0]
    path.write_bytes(content)
    tried += 1
  assert integrity.newest_intact(folder) == 120
  assert tried >= 30


def test_every_single_bit_of_the_sums_counts(copy):
  folder = copy / 'checkpoints' / '120'
  sums = folder / integrity.SUMS
  content = sums.read_bytes()
  for index in range(0, len(content), 7):
    broken = bytearray(content)
    broken[index] ^= 1 << (index % 7)
    sums.write_bytes(broken)
    assert integrity.fault(folder), index
  sums.write_bytes(content[: content.index(b'\n', 300) + 1])  # whole lines
  assert 'not in SHA256SUMS' in integrity.fault(folder)


def test_deleted_folders_and_stray_files_are_seen(copy):
  folder = copy / 'checkpoints'
  shutil.rmtree(folder / '120' / 'replay')
  assert integrity.newest_intact(folder, report=runs.quiet) == 80
  (folder / '80' / 'replay' / 'd' / 'more').write_text('x')
  assert integrity.newest_intact(folder, report=runs.quiet) == 40


def test_coreutils_agree(copy):
  folder = copy / 'checkpoints' / '120'
  check = ['sha256sum', '--check', '--quiet', '--strict', integrity.SUMS]
  assert subprocess.run(check, cwd=folder, check=False).returncode == 0
  flip(folder / 'loop' / '_METADATA')
  assert subprocess.run(check, cwd=folder, check=False).returncode == 1


def test_a_damaged_replay_costs_nothing_but_time(run, copy):
  """The run goes on from the older checkpoint to the same bits."""
  whole, result = run
  for path in (copy / 'checkpoints' / '120' / 'replay' / 'd').iterdir():
    flip(path)
  lines = []
  again = loop.train(
    runs.config(), runs.env(), workdir=copy, resume=True, report=lines.append
  )
  assert sum('warning' in line for line in lines) == 1
  assert any('moved to' in line for line in lines)
  assert any('resuming' in line and 'env step 80' in line for line in lines)
  assert (copy / 'damaged' / '120').is_dir()
  runs.assert_same_bits(again.state, result.state)
  assert runs.records(copy) == runs.records(whole)
  assert runs.evaluations(copy) == runs.evaluations(whole)
  with Checkpointer(copy / 'checkpoints', read_only=True) as checkpointer:
    assert checkpointer.steps() == STEPS
  assert integrity.fault(copy / 'checkpoints' / '120') is None


def test_all_damaged_is_refused_in_one_line_and_nothing_moved(copy):
  for step in STEPS:
    truncate(copy / 'checkpoints' / str(step) / 'agent' / '_METADATA')
  before = files(copy)
  with pytest.raises(ConfigError, match='no intact checkpoint') as error:
    loop.train(
      runs.config(), runs.env(), workdir=copy, resume=True, report=runs.quiet
    )
  assert '\n' not in str(error.value)
  assert all(f'{step}: agent/_METADATA' in str(error.value) for step in STEPS)
  assert files(copy) == before


def test_an_unfinished_first_checkpoint_starts_the_run_anew(copy):
  folder = copy / 'checkpoints'
  for step in STEPS[1:]:
    shutil.rmtree(folder / str(step))
  (folder / '40' / integrity.SUMS).unlink()
  lines = []
  assert integrity.newest_intact(folder, report=lines.append) is None
  assert 'not saved to the end' in lines[0]
  integrity.set_aside(folder, None)
  assert integrity.saved(folder) == []


def test_policies_are_not_loaded_from_damaged_files(copy):
  def load(task, physics):
    return runs.env()

  damaged = copy / 'checkpoints' / '120' / 'policy' / '_METADATA'
  flip(copy / 'checkpoints' / '120' / 'replay' / '_METADATA')
  lines = []
  *_, step = load_policy(copy, load, report=lines.append)
  assert step == 120 and not lines  # only the policy is read
  flip(damaged)
  before = files(copy)
  *_, step = load_policy(copy, load, report=lines.append)
  assert step == 80 and 'env step 120 is damaged' in lines[0]
  with pytest.raises(ConfigError, match=r'120 is damaged: policy/_METADATA'):
    load_policy(copy, load, 120)
  assert files(copy) == before  # whoever reads changes nothing


def test_a_later_format_is_refused_by_name(copy):
  folder = copy / 'checkpoints' / '120'
  metadata = folder / '_CHECKPOINT_METADATA'
  record = json.loads(metadata.read_text())
  assert record['custom_metadata']['format'] == integrity.FORMAT
  record['custom_metadata'] = {'format': integrity.FORMAT + 1}
  metadata.write_text(json.dumps(record))
  integrity.seal(folder)
  with pytest.raises(ConfigError, match=r'has format 3.*upgrade'):
    integrity.newest_intact(folder.parent)


def test_another_versions_arrays_are_refused_in_one_line(run):
  folder = run[0] / 'checkpoints'
  like = Runner(runs.config(), runs.env()).abstract_state()
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0, impl='rbg')))
  other = like.rollout.replace(reward_stats=like.rollout.last_return)
  with Checkpointer(folder, read_only=True) as checkpointer:
    for wrong in (like.replace(key=keys), like.replace(rollout=other)):
      with pytest.raises(ConfigError, match=r'env step 120 .* does not fit'):
        checkpointer.restore(120, wrong)


def test_checkpoints_hold_no_pickle(run):
  """Nothing that could run code when it is loaded."""
  for path in files(run[0] / 'checkpoints'):
    content = path.read_bytes()
    assert content[:1] != b'\x80' or content[1:2] > b'\5', path
    assert path.suffix not in ('.pkl', '.pickle', '.pt', '.npy')


def test_a_failed_save_names_the_last_good_one(run, tmp_path, monkeypatch):
  """A full disk: at once, in orbax's threads, or with the checksums."""
  _, result = run
  folder = tmp_path / 'checkpoints'

  def fails(*_, **__):
    raise OSError(28, 'No space left on device')

  state = result.state
  with Checkpointer(folder) as checkpointer:
    checkpointer.save(40, state)
  for target, name in (
    (checkpoint_lib.ocp.CheckpointManager, 'save'),
    (checkpoint_lib.ocp.CheckpointManager, 'wait_until_finished'),
    (integrity, 'seal'),
  ):
    with monkeypatch.context() as patch:
      patch.setattr(target, name, fails)
      with (
        pytest.raises(WriteError, match='No space left') as error,
        Checkpointer(folder) as checkpointer,
      ):
        checkpointer.save(80, state)
    assert '\n' not in str(error.value)
    assert 'that of 40 is intact' in str(error.value)
    assert integrity.newest_intact(folder, report=runs.quiet) == 40
    integrity.set_aside(folder, 40)
  like = Runner(runs.config(), runs.env()).abstract_state()
  with Checkpointer(folder) as checkpointer:
    runs.assert_same_bits(checkpointer.restore(40, like), state)
    checkpointer.save(80, state)  # there is room again
  assert integrity.newest_intact(folder) == 80
  jax.block_until_ready(state.replay)


def test_zeros_that_fill_the_lanes_of_a_tpu_are_not_stored():
  config = runs.config()
  runners = [Runner(config, runs.env(), platform=p) for p in ('cpu', 'tpu')]
  states = [r.train_chunk(r.init(), 3)[0] for r in runners]  # acts only
  usual, padded = states
  assert padded.replay.shape[-1] == 128 > usual.replay.shape[-1]
  placement = runners[1].placement
  stored = placement.store(padded)
  runs.assert_same_bits(stored, usual)
  assert placement.like(runners[1].abstract_state()).replay.shape == (
    usual.replay.shape
  )
  runs.assert_same_bits(placement.restore(stored), padded)
