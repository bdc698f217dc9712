"""`launch.benchmark` runs, and says what it measured."""

import json

from . import programs


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


def test_training(tmp_path):
  path = tmp_path / 'training.json'
  small = ('critic_width=8', 'actor_width=8', 'warmup=5', 'batch_size=4')
  result = programs.run(
    'benchmark',
    '--task=pendulum-swingup',
    '--updates=20',
    '--repeats=2',
    *(f'--set={value}' for value in small),
    f'--json={path}',
  )
  assert result.returncode == 0, result.stderr
  (row,) = json.loads(path.read_text())['rows']
  # UTD 10 per decision of 2 env steps.
  updates = row['env_steps_per_second'] * 5
  assert abs(row['updates_per_second'] / updates - 1) < 0.01


def test_bad_flags_are_one_line():
  for flags, message in (
    (('--task=cheetah',), 'cheetah'),
    (('--task=cheetah-run,dog-run',), '--physics_only'),
    (('--physics_only', '--task=nothing'), 'neither a task nor'),
  ):
    result = programs.run('benchmark', *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count('\n') == 1
