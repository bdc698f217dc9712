"""`launch.sweep`: its grid, what it runs and repeats, where it runs it."""

import contextlib
import fcntl
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml

from mjx_crossq import ConfigError, from_preset, vary
from mjx_crossq.config import FIELDS, Config, choices, parse_assignments
from mjx_crossq.host import run_files as logging
from mjx_crossq.launch.jobs import (
  backends,
  cloud,
  costs,
  devices,
  grid,
  jobs,
  merging,
  supervision,
)
from mjx_crossq.results import curves
from tests.reliability import runs

from . import programs

TINY = {
  'task': 'tests.reliability.runs:env',
  'num_seeds': 2,
  'num_envs': 2,
  'env_steps': 2000,
  'log_every': 1000,
  'eval_every': 1000,
  'eval_episodes': 1,
  'checkpoint_every': 1000,
  'replay_capacity': 2000,
  'batch_size': 8,
  'warmup': 100,
  'critic_width': 8,
  'actor_width': 8,
}


def line(**axes):
  return ' '.join(f'{name}={values}' for name, values in axes.items())


def cells(**axes):
  return grid.cells(grid.parse(line(**{**TINY, **axes})))


def planned(tmp_path, **axes):
  plan = grid.Plan(tmp_path)
  return [job for cell in cells(**axes) for job in plan.jobs_of(cell)]


# ------------------------------------------------------------------ the grid


def test_cells_are_the_product_of_the_axes():
  found = grid.cells(
    grid.parse('task=walker-run,fish-swim preset=crossq_wn,sac utd=1,10')
  )
  expected = [
    from_preset(preset, task=task, utd=utd)
    for task, preset, utd in itertools.product(
      ('walker-run', 'fish-swim'), ('crossq_wn', 'sac'), (1, 10)
    )
  ]
  assert found == expected
  (one,) = grid.cells(grid.parse('preset=sac reset_at=15001,50001'))
  assert one == from_preset('sac', reset_at=(15_001, 50_001))
  assert len(grid.cells(grid.parse('task=paper'))) == 15


def test_a_file_has_the_same_axes(tmp_path):
  path = tmp_path / 'sweep.yaml'
  path.write_text(
    'task: [walker-run, brax:ant]\ncritic_lr: [1e-4, 0.001]\nnum_seeds: 3\n'
    'reset_at: [[5, 9], []]\nbackend: slurm\noptions: {timeout_min: 10}\n'
  )
  axes, settings = grid.read(str(path))
  assert settings == {'backend': 'slurm', 'options': {'timeout_min': 10}}
  found = grid.cells(axes)
  assert len(found) == 8 and {c.num_seeds for c in found} == {3}
  assert {c.critic_lr for c in found} == {1e-4, 1e-3}
  assert {c.reset_at for c in found} == {(5, 9), ()}
  folders = {jobs.full_name(c) for c in found}
  assert len(folders) == 8 and all(':' not in name for name in folders)


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('utd', 'field=value,value'),
    ('utd=1 utd=2', 'given twice'),
    ('utdd=1', "did you mean 'utd'"),
    ('utd=1,x', 'not of type number'),
    ('utd=1,0', 'must be at least 1'),
    ('utd=', 'empty'),
    ('utd=1,1', 'UTD 1 twice; leave'),
    ('preset=sacc', "did you mean 'sac'"),
    ('utd=' + ','.join(map(str, range(1, 10_002))), 'at most'),
  ],
)
def test_wrong_grids(text, message):
  with pytest.raises(ConfigError, match=message):
    grid.cells(grid.parse(text))


def test_names_follow_from_the_settings_and_are_short():
  """A budget may be raised; what changes the numbers has its own folder."""
  base = from_preset('crossq_wn', task='walker-run')

  def name(**changes):
    return jobs.full_name(base.replace(**changes))

  assert name() == 'walker-run-crossq_wn-utd10-seeds1'
  assert name(env_steps=5, log_every=1, eval_every=0) == name()
  changes = [
    {'seed': 3},
    {'critic_lr': 1e-4},
    {'tau': 0.5},
    {'num_envs': 2},
    {'reset_at': (5,)},
    {'physics': 'warp'},
    {'num_seeds': 2},
  ]
  assert len({name(), *(name(**c) for c in changes)}) == 8
  assert name(critic_lr=1e-4).endswith('-critic_lr0.0001')
  many = {f: 7 for f in ('critic_width', 'actor_width', 'batch_size', 'warmup')}
  many |= {f: 7 for f in ('renorm_warmup', 'replay_capacity', 'lr_decay_steps')}
  many |= {f: 7 for f in ('actor_layers', 'critic_layers', 'num_critics')}
  long = [name(**many), name(**many | {'warmup': 8})]
  assert len(set(long)) == 2 and all(len(text) < 100 for text in long)


def test_seeds_are_divided_evenly():
  config = from_preset('crossq_wn', num_seeds=10, seed=5)
  for count in range(1, 11):
    found = grid.blocks(config, count)
    sizes = [c.num_seeds for c in found]
    assert max(sizes) - min(sizes) <= 1 and len(found) == count
    seeds = [c.seed + i for c in found for i in range(c.num_seeds)]
    assert seeds == list(range(5, 15))
    assert {c.replace(seed=5, num_seeds=10) for c in found} == {config}


def test_blocks_fit_the_memory():
  config = from_preset('crossq_wn', num_seeds=10)
  # A seed has 100 bytes, and .9 of the memory is given.
  assert grid.seeds_that_fit(config, 1000, 2000) == 18
  assert grid.seeds_that_fit(config, 1000, 500) == 4
  assert grid.blocks_needed(config, 18) == 1
  assert grid.blocks_needed(config, 4) == 3
  assert grid.blocks_needed(config, 1) == 10
  with pytest.raises(ConfigError, match='lower replay_capacity'):
    grid.seeds_that_fit(config, 1000, 100)


def test_population_based_training_is_not_divided():
  config = from_preset(
    'crossq_wn', num_seeds=10, vary=('gamma=0.9,0.99',), pbt_every=1000
  )
  assert grid.blocks_needed(config, 10) == 1
  with pytest.raises(ConfigError, match='cannot be divided into jobs of 5'):
    grid.blocks_needed(config, 5)


def test_a_division_stays_as_it_was_decided(tmp_path):
  (cell, other) = cells(utd='1,2', num_seeds=5)
  plan = grid.Plan(tmp_path)
  assert plan.undecided([cell]) == [cell]
  plan.decide({cell: 2})
  plan.write()
  again = grid.Plan(tmp_path)
  assert again.undecided([cell, other]) == [other]
  again.decide({cell: 5, other: 1})
  found = [*again.jobs_of(cell, ['--flag']), *again.jobs_of(other)]
  assert [(j.config.seed, j.config.num_seeds) for j in found] == [
    (0, 3),
    (3, 2),
    (0, 5),
  ]
  name = jobs.full_name(cell)
  assert [job.name for job in found[:2]] == [
    f'{name}/seeds-0-2',
    f'{name}/seeds-3-4',
  ]
  assert found[2].name == jobs.full_name(other)
  # What was decided stays where it is fine enough, and is refused elsewhere.
  assert not grid.Plan(tmp_path).undecided([cell], seeds_per_job=3)
  with pytest.raises(ConfigError, match='into 2 job'):
    grid.Plan(tmp_path).undecided([cell], seeds_per_job=2)
  (tmp_path / 'sweep.json').unlink()
  (tmp_path / name / 'seeds-0-2').mkdir(parents=True)
  with pytest.raises(ConfigError, match='give --seeds_per_job as before'):
    grid.Plan(tmp_path).undecided([cell])
  assert grid.Plan(tmp_path).undecided([cell], seeds_per_job=3) == [cell]
  assert found[0].command()[-1] == '--flag'
  (tmp_path / 'sweep.json').write_text('{"jobs": []}')
  with pytest.raises(ConfigError, match='damaged'):
    grid.Plan(tmp_path)


# ------------------------------------------------------- jobs, and their state


class Fake:
  """A process that makes so many env steps of a run, and ends so."""

  def __init__(self, job, step, status, log=''):
    self.job, self.status = job, status
    config, folder = job.config, job.folder
    (folder / 'checkpoints').mkdir(parents=True, exist_ok=True)
    logging.write_config(folder, config)
    if step:
      (folder / 'checkpoints' / str(step)).mkdir(exist_ok=True)
    if step >= config.env_steps and not status:
      rows = ''.join(
        f'{config.seed + seed},{step},{physics},0,{10 * seed}\n'
        for physics in ('mjx', 'dm_control')
        for seed in range(config.num_seeds)
      )
      header = ','.join(logging.EVAL_HEADER) + '\n'
      (folder / 'eval.csv').write_text(header + rows)
    job.log.parent.mkdir(parents=True, exist_ok=True)
    job.log.write_text(log)

  def poll(self):
    return self.status

  def terminate(self):
    pass

  def wait(self):
    return self.status


class Script:
  """Starts fakes as told: by UTD, a list of (env step, status)."""

  def __init__(self, **told):
    self.told = {int(name[3:]): list(steps) for name, steps in told.items()}
    self.started = []

  def __call__(self, job, variables):
    self.started.append(job.config.utd)
    step, status = self.told[job.config.utd].pop(0)
    return Fake(job, step, status, f'first\nerror: {step}\n\n')


def run_script(tmp_path, script, retries=2, utd='1,2'):
  lines = []
  found = planned(tmp_path, utd=utd)
  engine = backends.Local([{}], script)
  engine.seconds = 0
  failed = supervision.supervise(found, engine, retries, lines.append)
  return failed, lines, found


def test_only_what_is_missing_runs(tmp_path):
  script = Script(utd1=[(2000, 0)], utd2=[(2000, 0)])
  failed, lines, found = run_script(tmp_path, script)
  assert not failed and script.started == [2, 1]  # the longer one first
  assert lines[0] == '0 of 2 jobs are done, 2 to run'
  assert lines[-1] == f'[2/2] {found[0].name} is done, return 5'
  failed, lines, _ = run_script(tmp_path, script)
  assert not failed and lines == ['2 of 2 jobs are done, 0 to run']
  assert script.started == [2, 1]
  # A cell more, and only it runs.
  script.told[4] = [(2000, 0)]
  run_script(tmp_path, script, utd='1,2,4')
  assert script.started == [2, 1, 4]


def test_failures_are_repeated_unless_they_get_nowhere(tmp_path):
  stuck = [(1000, 1)] * 4
  script = Script(utd1=stuck, utd2=[(0, -9), (1000, 1), (1000, 1), (2000, 0)])
  failed, lines, found = run_script(tmp_path, script)
  # UTD 1 got on once, then did not twice.
  assert script.started.count(1) == 3 and script.started.count(2) == 4
  assert failed == [f'{found[0].name} (exit status 1: error: 1000)']
  assert any('at env step 0 (exit status -9' in text for text in lines)
  states = [jobs.progress(job).state for job in found]
  assert states == ['failed', 'done']


def test_a_job_that_was_asked_to_stop_is_not_done(tmp_path):
  script = Script(utd1=[(1000, 0), (2000, 0)])
  failed, _, (job,) = run_script(tmp_path, script, utd='1')
  assert not failed and script.started == [1, 1]
  assert jobs.progress(job).state == 'done'


def test_wrong_input_is_not_repeated(tmp_path):
  script = Script(utd1=[(0, 2)], utd2=[(2000, 0)])
  failed, _, _ = run_script(tmp_path, script)
  assert len(failed) == 1 and script.started == [2, 1]
  script = Script(utd1=[(0, 1)])
  failed, _, _ = run_script(tmp_path, script, retries=0, utd='1')
  assert len(failed) == 1 and script.started == [1]


def test_processes_at_a_time(tmp_path):
  """No more than there are slots, each with its own device."""
  running, most, given = set(), [], []

  class Slow(Fake):
    def __init__(self, job, *args):
      super().__init__(job, *args)
      running.add(job)
      most.append(len(running))
      self.polls = 0

    def poll(self):
      self.polls += 1
      if self.polls > 3:
        running.discard(self.job)
        return self.status

  def start(job, variables):
    given.append(variables['CUDA_VISIBLE_DEVICES'])
    return Slow(job, 2000, 0)

  slots = devices.Devices('gpu', 2, 10**9).slots(2)
  engine = backends.Local(slots, start)
  engine.seconds = 0
  found = planned(tmp_path, utd='1,2,3,4,5')
  assert not supervision.supervise(found, engine, 0, lambda line: None)
  assert max(most) == 2 and {*given[:2]} == {'0', '1'} and len(given) == 5


def test_how_processes_share_devices(monkeypatch):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  gpus = devices.Devices('gpu', 4, 100)
  assert gpus.slots(1) == [{}] and gpus.room(1) == (100, 4)
  assert [s['CUDA_VISIBLE_DEVICES'] for s in gpus.slots(4)] == [*'0123']
  assert gpus.room(4) == (100, 1)
  shared = gpus.slots(8)
  assert shared[4] == {
    'CUDA_VISIBLE_DEVICES': '0',
    'XLA_PYTHON_CLIENT_MEM_FRACTION': '0.375',
  }
  assert gpus.room(8) == (50, 1)
  monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '6,7')
  assert gpus.slots(2)[1] == {'CUDA_VISIBLE_DEVICES': '7'}
  assert devices.Devices('cpu', 8, 90).room(3) == (30, 1)
  with pytest.raises(ConfigError, match='share a tpu'):
    devices.Devices('tpu', 4, 100).slots(2)


def test_state_table(tmp_path):
  done, partial, missing, busy = planned(tmp_path, utd='1,2,3,4')
  Fake(done, 2000, 0)
  Fake(partial, 1000, 1)
  Fake(busy, 1000, 1)
  jobs.record_exit(busy, 1)
  with (busy.folder / '.lock').open('w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    table = supervision.status_table([done, partial, missing, busy])
    engine = backends.Local([{}], Script(utd2=[(2000, 0)], utd3=[(2000, 0)]))
    lines = []
    found = [done, partial, missing, busy]
    assert not supervision.supervise(found, engine, 0, lines.append)
    assert lines[0] == f'{busy.name}: another process trains it'
  rows = [text.split() for text in table.splitlines()[1:-1]]
  assert [row[1:] for row in rows] == [
    ['2,000', '/', '2,000', 'done', '5'],
    ['1,000', '/', '2,000', 'partial', '-'],
    ['0', '/', '2,000', 'missing', '-'],
    ['1,000', '/', '2,000', 'running', '-'],
  ]
  assert table.endswith('4 jobs: 1 done, 1 missing, 1 partial, 1 running')
  assert jobs.progress(busy).state == 'failed'  # the lock is gone


def test_looking_does_not_keep_a_run_from_its_folder(tmp_path):
  """`in_use` takes the lock for a moment; a run that starts waits it out."""
  from mjx_crossq.host.workdir import in_use, locked

  assert not in_use(tmp_path)
  with locked(tmp_path):
    assert in_use(tmp_path)
    mine = f'id {os.getpid()}'
    with pytest.raises(ConfigError, match=mine), locked(tmp_path):
      pass
  with (tmp_path / '.lock').open() as looking:
    fcntl.flock(looking, fcntl.LOCK_SH)
    with pytest.raises(ConfigError, match='another process'), locked(tmp_path):
      pass
  with locked(tmp_path):
    pass


# ------------------------------------------------------- blocks of seeds


def test_blocks_are_merged_as_one_run(tmp_path):
  """Records in the order of one process; a second merge changes nothing."""
  (cell,) = cells(utd='1', num_seeds=3, eval_episodes=1)
  plan = grid.Plan(tmp_path)
  plan.decide({cell: 2})
  blocks = plan.jobs_of(cell)
  assert [job.config.num_seeds for job in blocks] == [2, 1]
  for job in blocks:
    Fake(job, 2000, 0)
    seeds = range(job.config.seed, job.config.seed + job.config.num_seeds)
    records = [
      json.dumps({'seed': seed, 'env_step': step}) + '\n'
      for step in (1000, 2000)
      for seed in seeds
    ]
    (job.folder / 'metrics.jsonl').write_text(''.join(records))
  folder = tmp_path / jobs.full_name(cell)
  assert merging.merge(folder, cell, blocks)
  records = [(r['env_step'], r['seed']) for r in runs.records(folder)]
  assert records == [(step, seed) for step in (1000, 2000) for seed in range(3)]
  assert runs.evaluations(folder)[1:] == [
    [str(seed), '2000', physics, '0', str(10 * index)]
    for physics in ('mjx', 'dm_control')
    for seed, index in ((0, 0), (1, 1), (2, 0))
  ]
  run = curves.Run.read(folder)
  assert run.config == cell and [*run.returns()] == [0, 1, 2]
  assert (folder / 'learning_curve.png').read_bytes().startswith(b'\x89PNG')
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*')}
  assert not merging.merge(folder, cell, blocks)
  assert before == {p: p.stat().st_mtime_ns for p in folder.rglob('*')}


def test_variants_are_merged_each(tmp_path):
  (cell,) = cells(vary='gamma=0.9,0.99', utd='1')
  plan = grid.Plan(tmp_path)
  plan.decide({cell: 2})
  blocks = plan.jobs_of(cell)
  for job in blocks:
    logging.write_config(job.folder, job.config)
    for index, where in enumerate(vary.folders(job.folder, job.config)):
      logging.write_config(where, job.config)
      seed = job.config.seed
      record = json.dumps({'seed': seed, 'env_step': 2000, 'variant': index})
      (where / 'metrics.jsonl').write_text(record + '\n')
      header = ','.join(logging.EVAL_HEADER)
      (where / 'eval.csv').write_text(f'{header}\n{seed},2000,mjx,0,{index}\n')
  folder = tmp_path / jobs.full_name(cell)
  assert merging.merge(folder, cell, blocks)
  for index, (variant, where) in enumerate(
    zip(vary.variants(cell), vary.folders(folder, cell), strict=True)
  ):
    run = curves.Run.read(where)
    assert run.config == variant.config
    assert run.returns() == {0: {2000: index}, 1: {2000: index}}
    assert [r['variant'] for r in runs.records(where)] == [index] * 2


# ------------------------------------------------------------------- flags


# Fields that may be changed only together with others.
WITH = {
  'pbt_every': {'vary': 'gamma=0.9,0.99', 'num_seeds': 2},
  'critic_value': {'atoms': 51},
  'atoms': {'critic_value': 'quantile'},
  'soft_l2': {'weight_norm': False},
  'optimism': {'normalization': 'layer'},
  'bound_returns': {'normalize_rewards': True},
}


def another(name):
  """A configuration in which a field is not the preset's."""
  default = FIELDS[name].default
  texts = ['gamma=0.9,0.99;tau=0.001,0.005', '15001,50001']
  if isinstance(default, bool):
    texts = [str(not default)]
  elif isinstance(default, str):
    texts = [*choices(name), 'sac', 'walker-run']
  elif isinstance(default, int | float):
    texts = [str(default + 1), str(default + 1000), str(default / 2)]
  base = from_preset('crossq_wn').to_dict() | WITH.get(name, {})
  for text in texts:
    with contextlib.suppress(ConfigError):
      found = Config.from_dict(base | {name: text})
      if getattr(found, name) != default:
        return found
  raise AssertionError(name)


@pytest.mark.parametrize('name', FIELDS)
def test_every_field_round_trips_through_the_flags_of_a_job(name):
  config = another(name)
  preset, *sets = jobs.flags(config)
  texts = [flag.removeprefix('--set=') for flag in sets]
  changes = parse_assignments(texts)
  again = from_preset(preset.removeprefix('--preset='), **changes)
  assert again == config


def test_a_cell_that_varies_two_fields_is_a_command_that_train_takes():
  text = 'vary=gamma=0.9,0.99;tau=0.001,0.005'
  (cell,) = grid.cells(grid.parse(f'utd=1 {text}'))
  assert len(vary.variants(cell)) == 4
  _, *sets = jobs.flags(cell)
  (flag,) = (flag for flag in sets if flag.startswith('--set=vary'))
  assert flag == f'--set={text}'
  assert parse_assignments([flag.removeprefix('--set=')])['vary'] == cell.vary
  assert not set('/:;') & set(jobs.full_name(cell))


# ----------------------------------------------------------- real processes

GRID = line(**TINY, utd='1,2')
BLOCKS = (f'--grid={line(**TINY, utd="1")}', '--seeds_per_job=1')


def real(folder, *flags, code=0):
  done = programs.run('sweep', f'--workdir={folder}', *flags)
  assert done.returncode == code, done.stdout + done.stderr
  return done.stdout


def blocks_of(folder):
  (cell,) = cells(utd='1')
  plan = grid.Plan(folder)
  plan.decide({cell: 2})
  return cell, plan.jobs_of(cell)


@pytest.fixture(scope='module')
def story(tmp_path_factory):
  """Two blocks of seeds; the first is killed in the middle and continued."""
  folder = tmp_path_factory.mktemp('sweep') / 'runs'
  shown = {'missing': real(folder, *BLOCKS, '--status')}
  existed = folder.exists()
  _, (first, _) = blocks_of(folder)
  command = [sys.executable, '-m', 'mjx_crossq.launch.sweep', *BLOCKS]
  process = subprocess.Popen(
    [*command, f'--workdir={folder}', '--retries=1'],
    stdout=subprocess.PIPE,
    text=True,
  )
  saved = first.folder / 'checkpoints' / '1000' / 'SHA256SUMS'
  killed = False
  while process.poll() is None:
    if not killed and saved.exists():
      pid = int((first.folder / '.lock').read_text())
      os.kill(pid, signal.SIGKILL)
      killed = True
    time.sleep(0.02)
  assert process.stdout
  shown['run'] = process.stdout.read()
  assert process.returncode == 0, shown['run']
  before = {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  shown['again'] = real(folder, *BLOCKS)
  after = {p: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}
  return folder, existed, first, shown, before, after


@pytest.mark.slow
def test_a_real_sweep_survives_a_kill(story):
  folder, existed, first, shown, _, _ = story
  assert not existed and shown['missing'].endswith('2 jobs: 2 missing\n')
  assert f'{first.name} continues at env step' in shown['run']
  assert '(exit status -9' in shown['run']
  assert '2 jobs: 2 done\nmerged 2 blocks of seeds in ' in shown['run']
  log = first.log.read_text()
  assert log.count('resuming') == 1 and 'finished in' in log
  for seed, job in enumerate(blocks_of(folder)[1]):
    returns = curves.Run.read(job.folder).returns()
    assert {s: [*steps] for s, steps in returns.items()} == {seed: [1000, 2000]}
    assert [r['env_step'] for r in runs.records(job.folder)] == [1000, 2000]


@pytest.mark.slow
def test_blocks_make_the_records_of_one_run(story, tmp_path):
  """Line by line; values as near as those of seeds in one program are."""
  folder, *_ = story
  cell, _ = blocks_of(folder)
  one = jobs.Job(cell, tmp_path, 'one')
  assert jobs.run(one) == 0, jobs.last_line(one)
  merged = folder / jobs.full_name(cell)
  ours, theirs = runs.records(merged), runs.records(one.folder)
  assert [[*r] for r in ours] == [[*r] for r in theirs]
  for a, b in zip(ours, theirs, strict=True):
    assert (a['env_step'], a['seed']) == (b['env_step'], b['seed'])
    assert a == pytest.approx(b, rel=1e-3, abs=1e-4, nan_ok=True)
  ours, theirs = runs.evaluations(merged), runs.evaluations(one.folder)
  assert [row[:-1] for row in ours] == [row[:-1] for row in theirs]
  for a, b in zip(ours[1:], theirs[1:], strict=True):
    assert float(a[-1]) == pytest.approx(float(b[-1]), rel=1e-3)
  run = curves.Run.read(merged)
  assert run.config == cell and [*run.returns()] == [0, 1]


@pytest.mark.slow
def test_a_sweep_that_is_done_changes_nothing(story):
  folder, _, _, shown, before, after = story
  assert '2 of 2 jobs are done, 0 to run' in shown['again']
  assert 'merged' not in shown['again']
  changed = {path for path in after if before.get(path) != after[path]}
  assert changed <= {folder / '.lock', folder / 'sweep.json'}


@pytest.mark.slow
def test_dry_run_says_what_it_costs(tmp_path):
  budgets = costs.budgets_of(cells(utd='1,2'))
  seed = next(iter(budgets.values())).total / 2
  gib = 1.5 * seed / 0.9 / 2**30
  shown = real(
    tmp_path / 'none', f'--grid={GRID}', '--dry_run', f'--memory_gib={gib}'
  )
  assert not (tmp_path / 'none').exists()
  assert 'no speed was measured' in shown
  assert '4 runs one after the other' in shown


def test_bad_input_starts_nothing(tmp_path):
  (tmp_path / 'bad.yaml').write_text('- 1')
  (tmp_path / 'per.yaml').write_text('utd: 1\nseeds_per_job: many')
  (tmp_path / 'sky.yaml').write_text('utd: 1\nbackend: cloud')
  good, where = '--grid=utd=1', f'--workdir={tmp_path / "runs"}'
  programs.check_errors(
    'sweep',
    {
      (): 'or --file is needed',
      (good,): '--workdir is needed',
      (good, where, '--benchmark=x'): 'is for --dry_run',
      (good, where, '--devices=2'): 'is for --dry_run',
      (good, where, '--dry_run', '--devices=2'): 'give --benchmark',
      (good, where, '--dry_run', '--price=2'): '--price is of --devices',
      (good, where, '--seeds_per_job=0'): 'seeds_per_job',
      (f'--file={tmp_path / "per.yaml"}', where): 'not of type int',
      ('--file=none.yaml', where): 'cannot be read',
      (f'--file={tmp_path / "bad.yaml"}', where): 'holds no settings',
      (f'--file={tmp_path / "sky.yaml"}', where): "unknown backend 'cloud'",
      ('--grid=task=walker-rnu', where): 'walker-rnu',
      ('--grid=task=tests.learner.probes:Rough', where): 'only a sketch',
      (good, where, '--option=a=1'): 'local has no options',
      (good, where, '--backend=ray', '--option=a'): 'write it as key=value',
      (good, where, '--backend=skypilot'): 'storage=URI',
    },
  )
  assert not (tmp_path / 'runs').exists()


# ------------------------------------------------------------------- backends


def test_a_backend_that_is_not_installed_is_one_line(monkeypatch, tmp_path):
  for name, make in (
    ('ray', lambda: backends.Ray({})),
    ('submitit', lambda: backends.Slurm(tmp_path, {})),
  ):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r'pip install mjx_crossq\['):
      make()


OPTIONS = {
  'storage': 's3://bucket/runs',
  'image': 'registry/mjx_crossq:1',
  'claim': 'runs',
}


def test_files_for_clusters(tmp_path):
  found = planned(tmp_path / 'runs', utd='1,2')
  lines = cloud.write(found, tmp_path / 'out', OPTIONS, retries=5)
  assert 'sky jobs launch' in lines[0] and 'kubectl apply' in lines[1]
  files = sorted((tmp_path / 'out').rglob('*.yaml'))
  assert len(files) == 4
  for job in found:
    name = cloud.short_name(job)
    assert len(name) <= 53 and name == name.lower()
    task = yaml.safe_load((tmp_path / 'out/sky' / f'{name}.yaml').read_text())
    where = f'--workdir=/sweep/{job.name}'
    assert task['run'].startswith(
      f'python -m mjx_crossq.launch.train --resume {where} '
    )
    assert task['file_mounts']['/sweep']['source'] == OPTIONS['storage']
    path = tmp_path / 'out/kubernetes' / f'{name}.yaml'
    pod = yaml.safe_load(path.read_text())['spec']
    assert pod['backoffLimit'] == 5
    (container,) = pod['template']['spec']['containers']
    assert where in container['command']
    # The flags give the cell again.
    sets = [a[6:] for a in container['command'] if a.startswith('--set=')]
    axes = grid.parse(' '.join(sets))
    assert grid.cells(axes) == [job.config]
  with pytest.raises(ConfigError, match='both'):
    cloud.write(found, tmp_path, {'storage': 's', 'image': 'x'})
  with pytest.raises(ConfigError, match="did you mean 'storage'"):
    cloud.write(found, tmp_path, {'storag': 's'})


def swept(folder, backend, *flags):
  """A real sweep on a backend, whose first job is killed once."""
  flags = (f'--grid={GRID}', f'--backend={backend}', *flags)
  out = real(folder, *flags)
  assert out.endswith('2 jobs: 2 done\n'), out
  for job in planned(folder, utd='1,2'):
    assert jobs.complete(job.config, job.folder)
    assert int(job.exit_status.read_text()) == 0
  again = real(folder, *flags)
  assert '2 of 2 jobs are done, 0 to run' in again


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('ray'), reason='needs ray')
def test_a_real_ray_cluster(tmp_path):
  swept(tmp_path / 'runs', 'ray', '--option=num_cpus=1')


@pytest.mark.slow
@pytest.mark.skipif(
  not importlib.util.find_spec('submitit'), reason='needs submitit'
)
def test_submitit_without_slurm(tmp_path):
  swept(tmp_path / 'runs', 'slurm', '--option=cluster=local')


@pytest.mark.slow
@pytest.mark.skipif(
  not importlib.util.find_spec('submitit')
  or not shutil.which('squeue')
  or subprocess.run(['squeue'], capture_output=True, check=False).returncode,
  reason='needs submitit and a running Slurm',
)
def test_a_real_slurm(tmp_path):
  swept(tmp_path / 'runs', 'slurm', '--option=timeout_min=30')
