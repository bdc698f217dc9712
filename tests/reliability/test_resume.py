"""What a resumed run keeps, says and refuses."""

import json
import shutil

import pytest

from mjx_crossq import ConfigError, versions
from mjx_crossq.host import evaluation, integrity
from mjx_crossq.host import run as loop
from mjx_crossq.results import curves, report
from tests.reliability import runs


@pytest.fixture(scope='module')
def half(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('half') / 'run'
  runs.train(workdir, env_steps=80)
  return workdir


@pytest.fixture
def copy(half, tmp_path):
  shutil.copytree(half, tmp_path / 'copy')
  return tmp_path / 'copy'


def contents(folder):
  return {
    path.relative_to(folder): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file() and path.name != '.lock'
  }


@pytest.mark.parametrize('env_steps', [1, 40, 76])
def test_a_budget_below_what_is_done_is_refused(copy, env_steps):
  before = contents(copy)
  with pytest.raises(ConfigError, match=r'80 env steps already.*=80 or more'):
    runs.train(copy, env_steps=env_steps)
  assert contents(copy) == before
  runs.train(copy, env_steps=80)
  runs.train(copy, env_steps=77)  # whole iterations: the same


def elapsed(workdir):
  (seconds,) = (
    curves.Run.read(workdir).metrics(['time/elapsed_seconds']).values()
  )
  return [value for _, value in sorted(seconds[0].items())]


def test_the_time_goes_on(copy):
  path = next(copy.glob('checkpoints/80/_CHECKPOINT_METADATA'))
  record = json.loads(path.read_text())
  assert record['custom_metadata']['elapsed_seconds'] >= elapsed(copy)[-1] > 0
  record['custom_metadata']['elapsed_seconds'] = 1000.0
  path.write_text(json.dumps(record))
  integrity.seal(path.parent)
  runs.train(copy)
  times = elapsed(copy)
  assert times == sorted(times) and len(times) == 6
  assert times[3] < 1000 < times[4] < times[5] < 1600
  assert report.overview([curves.Run.read(copy)], ['']).count('min') == 1


def history(workdir):
  record = json.loads((workdir / 'config.json').read_text())
  found = [
    (x['env_step'], x['versions']['jax'], x['versions']['commit'])
    for x in record['history']
  ]
  assert record['versions'] == record['history'][-1]['versions']
  return found


def test_versions_are_kept_by_env_step(copy, monkeypatch):
  now = versions.current()
  lines = []
  runs.train(copy, lines.append)
  assert history(copy) == [(0, now['jax'], now['commit'])]
  assert not any('other versions' in line for line in lines)

  new = {**now, 'jax': '0.99.0', 'commit': 'abc'}
  monkeypatch.setattr(versions, 'current', lambda: new)
  runs.train(copy, lines.append, env_steps=160)
  assert history(copy) == [
    (0, now['jax'], now['commit']),
    (120, '0.99.0', 'abc'),
  ]
  (line,) = [line for line in lines if 'other versions' in line]
  assert f'from env step 120 on: jax {now["jax"]} -> 0.99.0, commit' in line
  page = report.configuration(curves.Run.read(copy), '')
  assert f'jax {now["jax"]} -&gt; 0.99.0' in page

  # Back at an earlier checkpoint: what came after it is not of the run.
  for step in (120, 160):
    shutil.rmtree(copy / 'checkpoints' / str(step))
  monkeypatch.setattr(versions, 'current', lambda: now)
  runs.train(copy, env_steps=160)
  assert history(copy) == [(0, now['jax'], now['commit'])]


def test_records_of_before_the_history(copy):
  path = copy / 'config.json'
  record = json.loads(path.read_text())
  del record['history']
  record['versions']['jax'] = '0.9.0'
  path.write_text(json.dumps(record))
  lines = []
  runs.train(copy, lines.append)
  assert [jax for _, jax, _ in history(copy)] == [
    '0.9.0',
    versions.current()['jax'],
  ]
  assert any('jax 0.9.0 -> ' in line for line in lines)


class BrokenError(Exception):
  pass


@pytest.mark.parametrize(
  'error',
  [
    BrokenError,
    pytest.param(KeyboardInterrupt, marks=pytest.mark.slow),
    pytest.param(SystemExit, marks=pytest.mark.slow),
  ],
)
def test_an_error_in_follow_leaves_a_checkpoint(tmp_path, undisturbed, error):
  """And the run goes on from it to the same bits."""

  def follow(step):
    if step >= 60:
      raise error

  workdir, lines = tmp_path / 'run', []
  with pytest.raises(error):
    loop.train(
      runs.config(),
      runs.env(),
      workdir=workdir,
      follow=follow,
      report=lines.append,
    )
  newest = integrity.newest_intact(workdir / 'checkpoints')
  assert newest >= 60
  assert any(f'stopped at env step {newest}, all is saved' in x for x in lines)
  whole, again = undisturbed, runs.train(workdir)
  runs.assert_same_bits(whole.state, again.state)
  assert runs.records(workdir) == runs.records(whole.workdir)
  assert runs.evaluations(workdir) == runs.evaluations(whole.workdir)


def test_an_error_in_report_or_evaluation_too(tmp_path, monkeypatch):
  def report(line):
    if 'evaluation' in line:
      raise BrokenError

  with pytest.raises(BrokenError):
    loop.train(runs.config(), runs.env(), workdir=tmp_path / 'a', report=report)
  assert integrity.newest_intact(tmp_path / 'a' / 'checkpoints') == 40

  def fails(*_):
    raise BrokenError

  monkeypatch.setattr(evaluation.Evaluation, '__call__', fails)
  with pytest.raises(BrokenError):
    runs.train(tmp_path / 'b')
  assert integrity.newest_intact(tmp_path / 'b' / 'checkpoints') == 40


def test_an_error_in_a_call_that_took_the_state_is_shown_as_it_is(
  tmp_path, monkeypatch
):
  take = loop.Runner.train_chunk

  def fails(self, state, stop, sums=None):
    found = take(self, state, stop, sums)
    if stop > 10:  # iterations
      raise BrokenError
    return found

  monkeypatch.setattr(loop.Runner, 'train_chunk', fails)
  with pytest.raises(BrokenError):
    runs.train(tmp_path / 'run')
  found = integrity.saved(tmp_path / 'run' / 'checkpoints')
  assert found == [40]
