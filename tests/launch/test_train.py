"""`launch.train` and `launch.evaluate` as a user starts them."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from mjx_crossq import Runner, envs
from mjx_crossq import config as config_lib
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.results import curves
from tests.launch import programs
from tests.reliability.runs import assert_same_bits

HALF, WHOLE = 3000, 6000  # env steps; 3000 is in the middle of an episode
FLAGS = {
  'task': 'cartpole-balance',
  'preset': 'crossq_wn',
  'num_seeds': 2,
  'seed': 3,
  'num_envs': 2,
  'utd': 2,
  'action_repeat': 4,
  'log_every': 1000,
  'eval_every': HALF,
  'eval_episodes': 3,
  'checkpoint_every': HALF,
  'diagnostics_every': HALF,
}
SETTINGS = {
  'critic_layers': 1,
  'actor_layers': 1,
  'critic_width': 32,
  'actor_width': 32,
  'batch_size': 32,
  'warmup': 200,
  'replay_capacity': 4000,
}


def launch(program, *args, check=True):
  """Runs a program in a process of its own."""
  done = programs.run(program, *args)
  if check:
    assert done.returncode == 0, done.stderr
  return done


def train(workdir, env_steps, *args):
  flags = [f'--{name}={value}' for name, value in FLAGS.items()]
  sets = [f'--set={name}={value}' for name, value in SETTINGS.items()]
  return launch(
    'train',
    *flags,
    *sets,
    f'--env_steps={env_steps}',
    f'--workdir={workdir}',
    *args,
  )


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  """One undisturbed run, and one that was stopped half-way and resumed."""
  folder = tmp_path_factory.mktemp('runs')
  outputs = [
    train(folder / 'whole', WHOLE),
    train(folder / 'resumed', HALF),
    train(folder / 'resumed', WHOLE, '--eval_async', '--resume'),
  ]
  return folder, [done.stdout for done in outputs]


def read_jsonl(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def read_csv(path):
  with path.open(newline='') as file:
    return list(csv.reader(file))


def restore(workdir):
  config, _ = config_lib.load(workdir / 'config.json')
  runner = Runner(config, envs.load(config.task))
  with Checkpointer(workdir / 'checkpoints') as checkpointer:
    assert checkpointer.steps() == [HALF, WHOLE]
    return checkpointer.restore(WHOLE, runner.abstract_state())


def test_resumed_run_is_bit_for_bit_the_undisturbed_one(runs):
  folder, outputs = runs
  assert f'resuming {folder / "resumed"} at env step 3,000' in outputs[2]
  whole, resumed = restore(folder / 'whole'), restore(folder / 'resumed')
  assert_same_bits(whole, resumed)
  assert np.abs(np.asarray(whole.replay)).sum() > 0
  assert int(whole.iteration) == WHOLE // 8


def test_resumed_files_equal_the_undisturbed_ones(runs):
  folder, _ = runs
  records = [
    [
      {k: v for k, v in record.items() if not k.startswith('time/')}
      for record in read_jsonl(folder / name / 'metrics.jsonl')
    ]
    for name in ('whole', 'resumed')
  ]
  assert records[0] == records[1]
  evals = [
    read_csv(folder / name / 'eval.csv') for name in ('whole', 'resumed')
  ]
  assert [row[:4] for row in evals[0]] == [row[:4] for row in evals[1]]
  for whole, resumed in zip(*(rows[1:] for rows in evals), strict=True):
    if whole[2] == 'mjx':
      assert whole == resumed
    else:  # played by the policy in NumPy, whose rounding grows
      assert float(whole[4]) == pytest.approx(float(resumed[4]), rel=0.02)


def test_metrics_have_one_record_for_each_seed_and_log_point(runs):
  folder, _ = runs
  records = read_jsonl(folder / 'whole' / 'metrics.jsonl')
  points = [(r['seed'], r['env_step']) for r in records]
  assert points == [
    (seed, step) for step in range(1000, WHOLE + 1, 1000) for seed in (3, 4)
  ]
  last = records[-1]
  assert last['decision'] == WHOLE // 4
  assert last['update'] == 2 * (WHOLE // 4 - 200)
  assert (
    sum(r['train/updates'] for r in records if r['seed'] == 3) == last['update']
  )
  assert records[0]['train/critic_loss'] is None or records[0]['update'] > 0
  assert np.isfinite(last['train/critic_loss'])
  assert last['time/env_steps_per_second'] > 0


def test_diagnostics_are_in_the_records_of_their_env_steps(runs):
  folder, (shown, *_) = runs
  run = curves.Run.read(folder / 'whole')
  series = run.metrics(['diag/*'])
  assert {'diag/q_bias_mean', 'diag/critic_weight_norm/q'} <= {*series}
  for name, seeds in series.items():
    assert set(seeds) == {3, 4}, name
    assert all(set(trace) == {HALF, WHOLE} for trace in seeds.values()), name
  # Weight normalisation: 32 units of norm 1 a hidden layer, less the biases.
  for trace in series['diag/critic_weight_norm/Dense_1'].values():
    assert 0.9 * 32**0.5 < trace[WHOLE] <= 1.00001 * 32**0.5
  assert len(re.findall(r'^diagnostics: .* s each 3,000 env', shown, re.M)) == 1


def test_eval_csv_has_both_physics_and_absolute_seeds(runs):
  folder, _ = runs
  header, *rows = read_csv(folder / 'whole' / 'eval.csv')
  assert header == ['seed', 'env_step', 'physics', 'episode', 'episode_return']
  keys = {tuple(row[:4]) for row in rows}
  assert keys == {
    (str(seed), str(step), physics, str(episode))
    for seed in (3, 4)
    for step in (HALF, WHOLE)
    for physics in ('mjx', 'dm_control')
    for episode in range(3)
  }
  assert len(rows) == len(keys)
  assert all(0 < float(row[4]) <= 1000 for row in rows)


def test_config_records_what_was_run(runs):
  folder, _ = runs
  record = json.loads((folder / 'whole' / 'config.json').read_text())
  expected = {**FLAGS, **SETTINGS, 'env_steps': WHOLE}
  assert {k: record['config'][k] for k in expected} == expected
  assert record['versions']['jax'] == jax.__version__


def test_what_the_user_sees(runs):
  folder, (shown, *_) = runs
  assert re.search(
    r'6,000 / 6,000 env steps \| +[\d,]+ env steps/s \| +[\d,]+ updates/s \| '
    r'return \d+ \d+ \| 0:00 left',
    shown,
  )
  assert re.search(r'seed +mjx +dm_control\n +3 +[\d.]+ \+- [\d.]+ ', shown)
  assert str(folder / 'whole' / 'learning_curve.png') in shown
  image = (folder / 'whole' / 'learning_curve.png').read_bytes()
  assert image.startswith(b'\x89PNG') and len(image) > 5000


def test_finished_run_resumes_to_its_result_and_writes_nothing_twice(runs):
  folder, _ = runs
  before = read_csv(folder / 'whole' / 'eval.csv')
  train(folder / 'whole', WHOLE, '--resume')
  assert read_csv(folder / 'whole' / 'eval.csv') == before


@pytest.mark.parametrize(
  ('physics', 'step'), [('mjx', HALF), ('dm_control', WHOLE)]
)
def test_evaluate_gives_the_returns_of_the_run(runs, physics, step):
  folder, _ = runs
  done = launch(
    'evaluate',
    f'--workdir={folder / "whole"}',
    f'--physics={physics}',
    f'--step={step}',
  )
  rows = read_csv(folder / 'whole' / 'eval.csv')[1:]
  for seed in ('3', '4'):
    returns = [float(r[4]) for r in rows if r[:3] == [seed, str(step), physics]]
    mean = f'{np.mean(returns):.1f} +- {np.std(returns):.1f}'
    assert re.search(rf'{seed} +{re.escape(mean)}', done.stdout), done.stdout


def test_export_acts_in_stock_as_the_run_did(runs, tmp_path):
  folder, _ = runs
  done = launch(
    'export',
    f'--workdir={folder / "whole"}',
    '--seed=4',
    '--formats=numpy,stablehlo,onnx',
    f'--output={tmp_path}',
  )
  returns = {
    name: [float(x) for x in rest.split()]
    for name, rest in re.findall(
      r'(\w+): return in stock dm_control (.*)', done.stdout
    )
  }
  rows = read_csv(folder / 'whole' / 'eval.csv')[1:]
  key = ['4', str(WHOLE), 'dm_control']
  evaluated = [float(r[4]) for r in rows if r[:3] == key]
  # Another program, whose rounding grows over 1,000 steps of an episode.
  live = np.array(returns['live'])
  np.testing.assert_allclose(live[:3], evaluated, rtol=0.01)
  for name in ('numpy', 'stablehlo', 'onnx'):
    differs = rf'{name}: differs from the trained policy by at most (\S+)'
    (most,) = re.findall(differs, done.stdout)
    assert float(most) < 1e-5
    # In single episodes it grows to a few per cent.
    assert np.median(np.abs(returns[name] / live - 1)) < 0.02
    assert np.mean(returns[name]) == pytest.approx(np.mean(live), rel=0.1)
  assert sorted(os.listdir(tmp_path)) == [
    'numpy_policy.py',
    'policy.npz',
    'policy.onnx',
    'policy.stablehlo',
  ]
  whole = f'--workdir={folder / "whole"}'
  for args, message in {
    (whole, '--seed=5'): 'there are: 3, 4',
    (whole, '--formats=numpy,onx'): 'numpy, stablehlo, onnx',
  }.items():
    done = launch('export', *args, check=False)
    assert done.returncode == 2 and message in done.stderr


# A program, and at its end which of the slow packages it has imported.
LIGHT = """
import atexit, sys
slow = {'jax', 'mujoco', 'matplotlib'}
atexit.register(lambda: print('imported', sorted(slow & {*sys.modules})))
from mjx_crossq.launch import train
train.run()
"""


@pytest.mark.parametrize(
  ('flag', 'code', 'message'),
  [
    ('--list_tasks', 0, 'walker-run'),
    ('--uttd=2', 2, 'uttd'),
    ('--set=alpha_b1=7', 2, 'alpha_b1=7.0 must be below 1'),
    ('--preset=crosq', 2, "did you mean 'crossq'"),
    ('--task=cheetah-rnu', 2, "Did you mean 'cheetah-run'"),
    ('--resume', 2, '--workdir'),
  ],
)
def test_without_training_nothing_slow_is_imported(flag, code, message):
  done = subprocess.run(
    [sys.executable, '-c', LIGHT, flag], capture_output=True, text=True
  )
  assert done.returncode == code, done.stderr
  assert message in done.stdout + done.stderr
  assert done.stdout.endswith('imported []\n')


def test_flags_are_the_fields_that_are_marked():
  shown = launch('train', '--help').stdout
  for name, field in config_lib.FIELDS.items():
    found = re.search(rf'^  --(\[no\])?{name}: ', shown, re.M)
    by_hand = name == 'init_from'  # as a path's flag is
    assert bool(found) == (field.metadata['flag'] or by_hand), name


def test_list_tasks():
  shown = launch('train', '--list_tasks').stdout.split()
  assert shown == list(envs.ALL_TASKS)


def test_dry_run_prints_config_sizes_and_memory_and_writes_nothing(tmp_path):
  workdir = tmp_path / 'run'
  shown = launch(
    'train',
    '--task=cheetah-run',
    '--num_seeds=10',
    '--devices=1',
    f'--workdir={workdir}',
    '--dry_run',
  ).stdout
  assert not workdir.exists()
  assert re.search(r'task = cheetah-run\n', shown)
  # 23 inputs: two critics of 23-512-512-1 with three BatchNorms each.
  critic = 2 * (23 * 512 + 512 + 512 * 512 + 512 + 512 + 1 + 2 * (23 + 1024))
  assert re.search(rf'critic +{critic:,}\n', shown)
  replay = 10 * 500_000 * (2 * 17 + 6 + 2) * 4 / 2**20
  assert re.search(rf'replay +{replay:,.1f} MiB\n', shown)
  many = '--num_envs=128', '--utd=0.0625', '--target=v5e'
  shown = launch('train', '--dry_run', *many).stdout
  assert re.search(r'utd = 0.0625\n', shown)
  assert 'on v5e' in shown and re.search(r'available +16,384.0 MiB', shown)


@pytest.mark.parametrize('program', ['train', 'evaluate', 'export'])
def test_help(program):
  assert '--workdir' in launch(program, '--help').stdout


def test_bad_input_is_one_line_and_exit_code_2(runs, tmp_path):
  folder, _ = runs
  foreign = tmp_path / 'foreign'
  foreign.mkdir()
  (foreign / 'thesis.tex').write_text('do not touch')
  (tmp_path / 'file').touch()
  config = folder / 'whole' / 'config.json'
  before = config.read_text()
  cases = {
    ('--target=v5e',): 'add that flag',
    ('--task=cheetah-rnu',): "Did you mean 'cheetah-run'",
    ('--task=tests.learner.probes:Rough',): 'same: --allow_unfaithful',
    ('--preset=crosq',): "did you mean 'crossq'",
    ('--set=critic_widht=2',): "did you mean 'critic_width'",
    ('--set=critic_width=wide',): 'not of type int',
    ('--utd=many',): "utd='many' is not of type number",
    ('--utd=0',): 'utd=0 must be at least 1e-09',
    ('--utd=nan',): 'not of type number',
    ('--utd=.3',): 'set utd=0.25 or utd=0.3333333333333333',
    ('--env_steps=10000000000',): 'raise num_envs',
    ('--utd=2', '--set=utd=3'): 'contradicts',
    ('--uttd=2',): "'uttd'",
    ('train',): "unexpected argument 'train'",
    ('--action_repeat=3',): 'must divide',
    ('--deterministic', '--physics=warp'): 'take --physics=mjx',
    ('--vary=utd=1,2',): 'these can: critic_lr',
    ('--vary=tau=.1,.2', '--wandb=x'): 'take --tensorboard',
    ('--resume',): '--workdir',
    (
      '--num_seeds=1000',
      '--set=replay_capacity=100_000_000',
    ): 'lower replay_capacity',
    (f'--workdir={foreign}',): 'holds no run',
    (f'--workdir={tmp_path / "file" / "run"}',): 'cannot write',
    (f'--workdir={folder / "whole"}',): '--resume',
    (f'--workdir={folder / "whole"}', '--resume'): 'other settings',
  }
  programs.check_errors('train', cases)
  assert config.read_text() == before
  assert os.listdir(foreign) == ['thesis.tex']
  assert not Path('runs').exists() or 'cheetah-rnu' not in str(
    os.listdir('runs')
  )

  cases = {
    (): '--workdir is needed',
    (f'--workdir={foreign}',): 'holds no run',
    (
      f'--workdir={folder / "whole"}',
      '--step=17',
    ): 'no checkpoint at env step 17',
    (f'--workdir={folder / "whole"}', '--physics=bullet'): 'physics',
  }
  programs.check_errors('evaluate', cases)
