"""`launch.parity` on a small task, and its report."""

import json
from pathlib import Path

from mjx_crossq import envs
from mjx_crossq.launch import cli, parity_report

from . import programs


def test_measures_and_reports(tmp_path):
  result, report = tmp_path / 'parity.json', tmp_path / 'parity.md'
  files = (f'--json={result}', f'--report={report}')
  small = ('--episodes=3', '--draws=300')
  first = programs.run('parity', '--tasks=pendulum-swingup', *small, *files)
  assert first.returncode == 0, first.stderr
  row = json.loads(result.read_text())['mjx']['pendulum-swingup']
  for measure in ('state', 'physics', 'initial', 'contacts', 'returns'):
    assert row[measure]['pass'], row[measure]
  assert row['returns']['tests'] == 4  # the return and three observations
  assert row['speed']['steps_per_second'] > 0
  # Another run adds to the results.
  second = programs.run(
    'parity', '--tasks=point_mass-easy', '--measures=contacts', *files
  )
  assert second.returncode == 0, second.stderr
  both = json.loads(result.read_text())['mjx']
  assert set(both) == {'pendulum-swingup', 'point_mass-easy'}
  assert both['pendulum-swingup'] == row
  third = programs.run(
    'parity',
    '--physics=warp',
    '--tasks=pendulum-swingup',
    '--measures=physics',
    *files,
  )
  assert third.returncode == 0, third.stderr
  backends = json.loads(result.read_text())
  assert backends['mjx'] == both
  assert backends['warp']['pendulum-swingup']['physics']['pass']
  text = report.read_text()
  assert '| pendulum-swingup | ' in text
  assert '| point_mass-easy | ' in text
  assert 'FAILS' not in text


def test_bad_flags_are_one_line():
  cases = {
    ('--tasks=pendulum',): 'neither a task nor',
    ('--measures=taste',): "has 'taste'",
    ('--physics=magic',): "has 'magic'",
    ('--json=nowhere/at/all.json',): 'not a folder',
    ('--report=nowhere/at/all.md',): 'not a folder',
    ('--json=README.md',): 'would both be README.md',
    ('--episodes=1',): 'episodes',
  }
  programs.check_errors('parity', cases)


def test_nothing_is_written_beside_what_is_named(tmp_path, monkeypatch):
  """A file that no flag names lies by the one that is named."""
  docs = tmp_path / 'docs'
  docs.mkdir()
  for name in ('parity.json', 'parity.md'):
    (docs / name).write_text('{}')
  monkeypatch.chdir(tmp_path)
  small = ('--tasks=pendulum-swingup', '--measures=contacts')
  for flag, here in (('--json=a/p.json', 'a'), ('--report=b/q.md', 'b')):
    (tmp_path / here).mkdir()
    done = programs.run('parity', *small, '--contact_steps=10', flag)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / here).iterdir()}
    assert names == {'p.json', 'p.md'} if here == 'a' else {'q.json', 'q.md'}
  assert [p.read_text() for p in docs.iterdir()] == ['{}', '{}']
  assert {path.name for path in tmp_path.iterdir()} == {'docs', 'a', 'b'}


def test_report_marks_failures_and_unfaithful_tasks():
  contacts = {
    'dropped': 0.1,
    'dropped_force': 0.2,
    'most': 9,
    'slots': 8,
    'pairs': 130,
    'kept_pairs': 160,
    'pass': False,
  }
  returns = {
    'policy': 'trained',
    'ours': 101.0,
    'stock': 100.0,
    'standard_error': 2.0,
    'means': {'falls': [0.5, 0.25]},
    'pvalues': {'return': 0.5, 'falls': 0.125},
    'tests': 4,
    'pass': True,
  }
  text = parity_report.markdown(
    {
      'mjx': {
        'dog-run': {
          'unfaithful': 'no',
          'contacts': contacts,
          'contacts_trained': contacts | {'policy': 'trained', 'pass': True},
          'returns_trained': returns,
          'versions': {},
        }
      }
    }
  )
  figures = 'dropped 10.00%, force 20.00%, at most 9 at once in 8 slots'
  figures += ', 130 of 160 nearest pairs'
  assert f'| {figures} (random)  FAILS; {figures} (trained) |' in text
  done = '101.0, stock 100.0 +- 2.0 (trained), falls 0.5 and 0.25'
  assert f'| {done}, p 0.12 (falls, 4 tests) |' in text
  assert '| dog-run (unfaithful) |' in text
  assert '- dog-run: no.' in text


def test_groups_are_tasks():
  assert cli.expand_tasks(['paper']) == list(envs.PAPER_TASKS)
  assert len(cli.expand_tasks(['benchmarking'])) == 28
  assert cli.expand_tasks(['all', 'dog-run']) == list(envs.ALL_TASKS)


def test_the_report_is_generated():
  docs = Path(__file__).parents[2] / 'docs'
  results = json.loads((docs / 'parity.json').read_text())
  assert (docs / 'parity.md').read_text() == parity_report.markdown(results)
