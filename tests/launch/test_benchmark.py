"""`launch.benchmark` runs, and says what it measured."""

import json

import pytest

from mjx_crossq.launch.bench import breakdown

from . import programs


@pytest.mark.slow
def test_physics_only(tmp_path):
  path = tmp_path / 'physics.json'
  result = programs.run(
    'benchmark',
    '--physics_only',
    '--task=pendulum-swingup',
    '--num_envs=1',
    '--num_envs=3',
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  record = json.loads(path.read_text())
  assert [row['num_envs'] for row in record['rows']] == [1, 3]
  for row in record['rows']:
    assert row['task'] == 'pendulum-swingup'
    assert row['compile_seconds'] > 0
    ratio = row['steps_per_second'] / row['c_steps_per_second']
    assert row['ratio_to_c'] == ratio > 0


def test_launches(tmp_path):
  path = tmp_path / 'launches.json'
  result = programs.run('benchmark', '--launches', f'--json={path}')
  assert result.returncode == 0, result.stderr
  (row,) = json.loads(path.read_text())['rows']
  # The bodies have 16 reductions more, and nothing else that is launched.
  assert row['launches_many'] - row['launches_few'] >= 16
  assert row['launches_data'] - row['launches_few'] in (0, 1, 2, 3)
  assert set(row) > {'us_per_launch', 'us_per_fixed_trip', 'us_per_data_trip'}


def test_training_with_its_parts(tmp_path):
  path = tmp_path / 'training.json'
  result = programs.run(
    'benchmark',
    '--task=tests.reliability.runs:env',
    '--set=utd=3',
    '--repeats=2',
    '--split',
    *programs.SMALL,
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  (row,) = json.loads(path.read_text())['rows']
  # UTD 3 per decision of 2 env steps.
  updates = row['env_steps_per_second'] * 1.5
  assert abs(row['updates_per_second'] / updates - 1) < 0.01
  ms = dict(row['split']['ms'])
  assert min(ms[part] for part in breakdown.PARTS) > 0
  assert ms.pop('whole') == pytest.approx(sum(ms.values()))
  # 1,000 transitions of two observations, an action, reward and mask.
  assert row['memory']['replay'] == 1000 * (2 + 2 + 1 + 2) * 4
  assert row['split']['ceilings']['flops_per_second'] > 0


@pytest.mark.slow
def test_a_sweep_is_drawn(tmp_path):
  picture, path = tmp_path / 'utd.png', tmp_path / 'utd.json'
  result = programs.run(
    'benchmark',
    '--task=pendulum-swingup',
    '--sweep=seeds',
    '--sweep_values=1,2',
    '--repeats=1',
    *programs.SMALL,
    f'--plot={picture}',
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  rows = json.loads(path.read_text())['rows']
  assert [row['num_seeds'] for row in rows] == [1, 2]
  for row in rows:
    together = row['num_seeds'] * row['updates_per_second']
    assert row['seed_updates_per_second'] == pytest.approx(together)
  assert picture.read_bytes().startswith(b'\x89PNG')


def test_bad_flags_are_one_line():
  for flags, message in (
    (('--task=cheetah',), 'cheetah'),
    (('--task=cheetah-run,dog-run',), '--physics_only'),
    (('--physics_only', '--task=nothing'), 'neither a task nor'),
    (('--plot=a.png',), '--sweep'),
    (('--sweep=utd', '--sweep_values=1,x'), 'utd'),
    (('--json=nowhere/a.json',), 'not a folder'),
  ):
    result = programs.run('benchmark', *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count('\n') == 1
