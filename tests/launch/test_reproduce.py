"""`launch.reproduce`: its lists, what it skips and goes on with, its table."""

import csv
import dataclasses
import io
import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.stats

from mjx_crossq import ConfigError, envs
from mjx_crossq import config as config_lib
from mjx_crossq.launch import drawing, reproduce
from mjx_crossq.launch.jobs import experiments, jobs
from mjx_crossq.results import baselines, comparison
from mjx_crossq.results.curves import Curves
from tests.learner import probes

from . import programs

FIGURES, SCALES = (1, 2, 3), ('smoke', 'cpu', 'full')


def systems(runs):
  return [*dict.fromkeys((c.preset, c.utd) for c in runs)]


# -------------------------------------------------------------- lists of runs


def test_full_is_the_papers_protocol():
  scaling = experiments.runs(2, 'full')
  assert systems(scaling) == [('crossq_wn', utd) for utd in (1, 2, 5, 10)]
  beside = experiments.runs(3, 'full')
  assert systems(beside) == [('crossq_wn', 10), ('sac_resets', 32)]
  for runs in (scaling, beside):
    for system in systems(runs):
      tasks = tuple(c.task for c in runs if (c.preset, c.utd) == system)
      assert tasks == envs.PAPER_TASKS and len(tasks) == 15
  biased = experiments.runs(1, 'full')
  assert {'sac', 'crossq_512', 'crossq_wn'} == {c.preset for c in biased}
  assert {c.task for c in biased} < {*envs.PAPER_TASKS}
  for config in (*scaling, *beside, *biased):
    # Ten seeds, and beside that nothing but the preset.
    plain = config_lib.from_preset(
      config.preset,
      task=config.task,
      utd=config.utd,
      num_seeds=10,
      physics='warp' if config.task.startswith('dog') else 'mjx',
      diagnostics_every=25_000,
    )
    assert config == plain
    assert config.env_steps == 1_000_000 and config.eval_every == 25_000


@pytest.mark.parametrize('scale', ['smoke', 'cpu'])
def test_small_figures_share_the_runs_of_the_first(scale):
  first = experiments.runs(1, scale)
  assert {*experiments.runs(2, scale), *experiments.runs(3, scale)} < {*first}
  assert all(c.num_seeds == 2 and c.diagnostics_every for c in first)
  for preset in ('crossq_512', 'crossq_wn'):
    utds = {c.utd for c in first if c.preset == preset}
    assert utds == {1, 8 if scale == 'cpu' else 2}


def test_cpu_is_walker_and_cartpole_at_width_256():
  runs = experiments.runs(1, 'cpu')
  assert {c.task for c in runs} == {'cartpole-swingup', 'walker-walk'}
  assert {(c.critic_width, c.actor_width) for c in runs} == {(256, 256)}
  assert len(runs) == 10


def test_what_the_flags_change():
  runs = experiments.runs(
    1,
    'cpu',
    tasks=['walker-run'],
    presets=['crossq_wn'],
    num_seeds=3,
    env_steps=100,
  )
  assert systems(runs) == [('crossq_wn', 1), ('crossq_wn', 8)]
  changed = {(c.task, c.num_seeds, c.env_steps) for c in runs}
  assert changed == {('walker-run', 3, 100)}
  with pytest.raises(ConfigError, match="did you mean 'sac'"):
    experiments.runs(1, 'cpu', presets=['sacc'])


@pytest.mark.parametrize('scale', SCALES)
def test_every_run_has_a_folder_and_the_flags_that_give_it(scale, tmp_path):
  everything = {c for f in FIGURES for c in experiments.runs(f, scale)}
  folders = {jobs.short_name(config) for config in everything}
  assert len(folders) == len(everything)
  bro_like = config_lib.from_preset('sac', reset_at=(15_001, 50_001))
  for config in (*everything, bro_like):
    preset, *sets = jobs.flags(config)
    assert all(flag.startswith('--set=') for flag in sets)
    changes = config_lib.parse_assignments(
      [flag.removeprefix('--set=') for flag in sets]
    )
    name = preset.removeprefix('--preset=')
    assert config_lib.from_preset(name, **changes) == config


def test_how_far_a_folder_is(tmp_path):
  config = experiments.runs(3, 'smoke')[0]
  where = tmp_path / 'run'
  assert jobs.reached(config, where) == 0
  where.mkdir()
  assert jobs.reached(config, where) == 0
  (where / 'notes.txt').touch()
  with pytest.raises(ConfigError, match='holds no run'):
    jobs.reached(config, where)
  saved = config.replace(critic_width=64, env_steps=5).to_dict()
  (where / 'config.json').write_text(json.dumps({'config': saved}))
  with pytest.raises(ConfigError, match=r'other settings: critic_width \(64'):
    jobs.reached(config, where)
  # A run that was killed before its first checkpoint; its budget may change.
  saved['critic_width'] = config.critic_width
  (where / 'config.json').write_text(json.dumps({'config': saved}))
  assert jobs.reached(config, where) == 0


# ------------------------------------------------------------------ real runs


def files_of(folder):
  return {
    path: path.stat().st_mtime_ns
    for path in folder.rglob('*')
    if path.is_file()
  }


def smoke(figure):
  """The smallest runs, of the physics that compile fastest."""
  tasks = ['pendulum-swingup']
  return experiments.runs(figure, 'smoke', tasks=tasks, num_seeds=1)


def reproduction(folder, *flags, code=0):
  done = programs.run(
    'reproduce',
    '--scale=smoke',
    '--tasks=pendulum-swingup',
    '--seeds=1',
    '--replicates=50',
    f'--workdir={folder}',
    *flags,
  )
  assert done.returncode == code, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def story(tmp_path_factory):
  """A run cut short, one that fails, and both made whole: what was shown."""
  folder = tmp_path_factory.mktemp('story')
  first, second = (
    folder / jobs.short_name(config)
    for config in sorted(smoke(2), key=lambda c: -c.utd)
  )
  shown = {'short': reproduction(folder, '--figure=3', '--env_steps=1000')}
  # The checkpoint that the run would go on from loses its replay.
  replay = first / 'checkpoints' / '1000' / 'replay'
  shutil.move(replay, folder / 'aside')
  shown['failed'] = reproduction(folder, '--figure=2', code=1)
  shutil.move(folder / 'aside', replay)
  before = files_of(second)
  shown['whole'] = reproduction(folder, '--figure=2')
  return folder, first, second, before, shown


@pytest.mark.slow
def test_a_budget_may_end_early_and_be_raised(story):
  _, first, _, _, shown = story
  assert '0 of 1 jobs are done' in shown['short']
  assert '1,000 / 1,000 env steps' in shown['short']
  assert f'resuming {first} at env step 1,000' in shown['whole']
  config = smoke(3)[0]
  assert jobs.reached(config, first) == 2_000


@pytest.mark.slow
def test_a_failed_run_is_named_and_the_others_are_drawn(story):
  folder, first, second, _, shown = story
  assert f'[1/2] {second.name} is done' in shown['failed']
  assert '2,000 / 2,000 env steps' in shown['failed']
  last = shown['failed'].splitlines()[-2]
  assert last.startswith(f'failed: {first.name} (exit status ')
  assert f'wrote {folder / "figure2" / "figure_tasks.png"}' in shown['failed']
  assert (second / 'checkpoints' / '2000').is_dir()


@pytest.mark.slow
def test_complete_runs_are_left_alone(story):
  _, _, second, before, shown = story
  assert '1 of 2 jobs are done' in shown['whole']
  assert before and files_of(second) == before


@pytest.mark.slow
def test_figures_and_tables_of_the_runs(story):
  folder, first, second, _, _ = story
  output = folder / 'figure2'
  for name in ('tasks', 'aggregate'):
    image = (output / f'figure_{name}.png').read_bytes()
    assert image.startswith(b'\x89PNG') and len(image) > 5000
  rows = [*csv.DictReader((output / 'table.csv').open())]
  for run, label in ((first, 'UTD 2'), (second, 'UTD 1')):
    returns = [
      float(row['episode_return'])
      for row in csv.DictReader((run / 'eval.csv').open())
      if row['env_step'] == '2000' and row['physics'] == 'dm_control'
    ]
    (row,) = (r for r in rows if r['label'] == f'crossq_wn, {label}')
    assert len(returns) == 2 and row['env_step'] == '2000'
    assert float(row['iqm']) == pytest.approx(np.mean(returns) / 1e3, abs=1e-4)
    assert row['published'] == 'False' and row['runs'] == '1'
  assert any(row['label'] == 'XQC, published' for row in rows)
  points = [*csv.DictReader((output / 'points.csv').open())]
  assert {row['env_step'] for row in points} == {'1000', '2000'}


@pytest.mark.slow
def test_the_first_figure_draws_the_diagnostics(story, capsys):
  folder, *_ = story
  runs = [c for c in smoke(1) if c.utd == 2]
  output = folder / 'figure1'
  output.mkdir()
  reproduce.draw(1, reproduce.jobs_of(runs, folder), output, replicates=50)
  assert 'left out: ' in capsys.readouterr().out  # crossq_512 was not run
  text = (output / 'figure_diagnostics.svg').read_text()
  for series in ('q bias mean', 'q bias std', 'critic weight norm'):
    assert f'>{series}<' in text
  points = [*csv.DictReader((output / 'points.csv').open())]
  names = [*dict.fromkeys(row['series'] for row in points)]
  assert names == ['return', *reproduce._SERIES]
  # Weight normalisation leaves the sum of norms all but constant.
  norms = [
    float(r['value']) for r in points if r['series'].endswith('weight_norm')
  ]
  assert len(norms) == 2 and abs(norms[1] / norms[0] - 1) < 0.1


def test_interruption_stops_the_run_too(tmp_path):
  command = ['-m', 'mjx_crossq.launch.reproduce', '--figure=3', '--scale=smoke']
  process = subprocess.Popen(
    [sys.executable, *command, f'--workdir={tmp_path}'],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,
    text=True,
  )
  assert process.stdout
  for line in process.stdout:
    if line.startswith('compiling'):  # the child's
      break
  # To this process alone, as a job scheduler does it.
  process.send_signal(signal.SIGTERM)
  start = time.monotonic()
  rest = process.stdout.read()  # ends when nobody has the pipe open
  assert process.wait() == 130
  assert 'stopped; the same command continues' in rest
  assert 'evaluation' not in rest and time.monotonic() - start < 60


# ------------------------------------------------------------------ the table


def test_table_beside_published_numbers():
  steps = np.array([0.0, 30_000, 60_000])
  ours = {
    'ours': {
      'walker-run': Curves(steps, np.array([[0, 300, 600], [0, 100, 200.0]])),
      'dog-run': Curves(steps, np.array([[0, 30, 60], [0, 10, 20.0]])),
    },
    'less': {'walker-run': Curves(steps, np.array([[0, 0, 90.0]]))},
  }
  published = drawing.published(['BRO_utd10', 'SAC_utd32_resets'])
  groups = {'walker-run': ['walker-run'], 'both': ['walker-run', 'dog-run']}
  found = comparison.rows(ours, published, groups, replicates=50)
  by_key = {(r.env_step, r.tasks, r.label): r for r in found}
  # Those of ours that have the tasks say how far a comparison reaches.
  assert {r.env_step for r in found} == {25_000, 50_000, 60_000}

  one = by_key[50_000, 'walker-run', 'ours']
  assert one.iqm == pytest.approx((500 + 500 / 3) / 2 / 1000)
  assert one.between and one.runs == 2 and not one.published
  assert not by_key[60_000, 'walker-run', 'ours'].between
  assert (50_000, 'both', 'less') not in by_key
  both = by_key[60_000, 'both', 'ours']  # of 20, 60, 200, 600 the middle two
  assert both.iqm == pytest.approx(0.13) and both.runs == 4

  with baselines.PATHS[0].open() as file:
    raw = [
      (row['task'], float(row['episode_return']))
      for row in csv.DictReader(file)
      if row['algorithm'] == 'BRO_utd10' and row['env_step'] == '25000'
      if row['task'] in ('walker-run', 'dog-run')
    ]
  bro = by_key[25_000, 'both', 'BRO, UTD 10, published']
  assert bro.runs == len(raw) == 20 and bro.published and not bro.between
  expected = scipy.stats.trim_mean([value for _, value in raw], 0.25)
  assert bro.iqm == pytest.approx(expected / 1000)
  sac = [
    label for _, title, label in by_key if title == 'both' and 'SAC' in label
  ]
  assert not sac  # it has no dog

  again = [*csv.DictReader(io.StringIO(comparison.to_csv(found)))]
  assert len(again) == len(found)
  assert list(again[0]) == [f.name for f in dataclasses.fields(comparison.Row)]
  text = comparison.to_markdown(found)
  assert text.index('## 25,000 env steps') < text.index('## 60,000 env steps')
  last = text.split('## 60,000 env steps')[1]
  cells = {
    label: row
    for label, *row in (
      [x.strip() for x in line.split('|')[1:-1]]
      for line in last.splitlines()
      if line.startswith('|')
    )
  }
  assert cells[''] == ['walker-run', 'both']
  assert cells['ours'][1].startswith('0.130 (') and cells['less'][1] == '-'
  bro = cells['BRO, UTD 10, published'][1]
  assert bro.startswith('~')  # it has no evaluation at 60,000


# ------------------------------------------------------------- dry run, errors

SPEED = {
  'task': 'cheetah-run',
  'preset': 'crossq_wn',
  'num_seeds': 10,
  'num_envs': 1,
  'utd': 10,
  'critic_width': 512,
  'updates_per_second': 250.0,
}


def test_dry_run(tmp_path):
  speeds = tmp_path / 'speeds.json'
  speeds.write_text(json.dumps({'rows': [SPEED]}))
  done = programs.run(
    'reproduce',
    '--figure=3',
    '--scale=full',
    '--tasks=pendulum-swingup',
    '--dry_run',
    f'--benchmark={speeds}',
    f'--workdir={tmp_path / "runs"}',
  )
  assert done.returncode == 0, done.stderr
  _, ours, sac, total, hours, unmeasured, _ = done.stdout.splitlines()
  # (500,000 - 5,000) decisions x UTD 10, and (500,000 - 10,000) x UTD 32.
  shown = ours.split()
  assert shown[2:7] == ['UTD', '10', '10', '1,000,000', '49,500,000']
  # The replay: two observations, action, reward and mask in float32.
  replay = 10 * 500_000 * (3 + 1 + 3 + 2) * 4 / 2**20
  assert replay < int(shown[7]) < 1.6 * replay
  assert shown[8:12] == ['5.50', 'missing,', 'speed', 'of']
  assert sac.split()[6] == '156,800,000'
  assert replay < int(sac.split()[7]) < int(shown[7])
  assert sac.split()[8:] == ['-', 'missing']
  assert total.startswith('2 runs one after the other: 206,300,000 updates')
  assert hours.startswith('5.5 hours')
  assert unmeasured.startswith('no speed was measured for 1')
  assert not (tmp_path / 'runs').exists()


def with_a_rough_task(_):
  """Registers one, in the process of the program."""
  envs.register('rough-one', probes.Rough)


def test_bad_input_is_one_line_and_writes_nothing(tmp_path):
  config = experiments.runs(3, 'smoke')[0]
  other = tmp_path / 'other' / jobs.short_name(config)
  other.mkdir(parents=True)
  saved = {'config': config.replace(critic_width=64).to_dict()}
  (other / 'config.json').write_text(json.dumps(saved))
  (tmp_path / 'file').touch()
  (tmp_path / 'physics.json').write_text('{"rows": [{"task": "a"}]}')
  three = '--figure=3'
  dry = (three, '--dry_run')
  before = files_of(tmp_path)
  programs.check_errors(
    'reproduce',
    {
      (): '--figure is needed',
      (three, '--tasks=walker-rnu'): 'neither a task',
      (three, '--tasks=rough-one'): 'differs from stock',
      (three, '--presets=sac'): 'unknown preset of figure 3',
      (three, '--seeds=0'): 'num_seeds=0 must be at least 1',
      (three, '--env_steps=0'): 'env_steps=0 must be at least 1',
      (three, '--benchmark=x.json'): 'is for --dry_run',
      (*dry, '--benchmark=none.json'): 'no speeds of training',
      (*dry, f'--benchmark={tmp_path / "physics.json"}'): 'launch.benchmark',
      (three, f'--workdir={tmp_path / "file" / "runs"}'): 'cannot write',
      (three, f'--workdir={tmp_path / "other"}'): 'other settings',
    },
    prepare=with_a_rough_task,
  )
  assert files_of(tmp_path) == before
  done = programs.run('reproduce', '--figure=4')
  assert done.returncode == 2 and done.stderr.count('\n') == 1


def test_help():
  assert '--scale' in programs.run('reproduce', '--help').stdout
