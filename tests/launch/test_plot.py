"""`launch.plot` and the numbers behind its figures, on small written runs."""

import csv
import json
import re

import numpy as np
import pytest

from mjx_crossq import ConfigError
from mjx_crossq.config import from_preset
from mjx_crossq.launch import drawing
from mjx_crossq.results import (
  baselines,
  curves,
  figures,
  plotting,
  summaries,
)
from mjx_crossq.results.axes import AXES

from . import programs

STEPS = (10_000, 20_000, 30_000)


def write(folder, returns, task='walker-run', steps=STEPS, **changes):
  """A run with a return a seed at the last of the steps, rising from 0.

  The episodes of dm_control are 10 above and below that; mjx shows 1 there.
  """
  folder.mkdir()
  config = from_preset(
    changes.pop('preset', 'crossq_wn'),
    task=task,
    num_seeds=len(returns),
    **changes,
  )
  (folder / 'config.json').write_text(json.dumps({'config': config.to_dict()}))
  seeds = range(config.seed, config.seed + len(returns))
  with (folder / 'eval.csv').open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(
      ('seed', 'env_step', 'physics', 'episode', 'episode_return')
    )
    for step in steps:
      for seed, last in zip(seeds, returns, strict=True):
        value = last * step / steps[-1]
        writer.writerow((seed, step, 'mjx', 0, 1))
        writer.writerow((seed, step, 'dm_control', 0, value - 10))
        writer.writerow((seed, step, 'dm_control', 1, value + 10))
    file.write('7,4000')  # torn by a killed process
  with (folder / 'metrics.jsonl').open('w') as file:
    for step in range(5_000, steps[-1] + 1, 5_000):
      for seed in seeds:
        record = {
          'seed': seed,
          'env_step': step,
          'train/updates': 5,
          'train/critic_loss': None if step == 5_000 else 0.5,
          'diag/weight_norm': float(seed + step),
          'update': max(0, step - 10_000) * 10,
          'time/elapsed_seconds': 6e-3 * step * (1 + seed),
        }
        file.write(json.dumps(record) + '\n')
    file.write('{"seed": 0, "env')
  return folder


def test_runs_are_grouped_by_task_preset_and_utd(tmp_path):
  runs = [
    write(tmp_path / 'a', (300, 600)),
    write(tmp_path / 'b', (900,), seed=2, log_every=100),
    write(tmp_path / 'c', (90, 95), task='hopper-hop'),
    write(tmp_path / 'd', (30,), utd=1),
    write(tmp_path / 'e', (60,), utd=1, target_network=False),
  ]
  read = [curves.Run.read(run) for run in runs]
  found = curves.evaluations(read)
  assert list(found) == [
    'crossq_wn, UTD 10',
    'crossq_wn, UTD 1, target_network=True',
    'crossq_wn, UTD 1, target_network=False',
  ]
  walker = found['crossq_wn, UTD 10']['walker-run']
  np.testing.assert_array_equal(walker.steps, STEPS)
  expected = np.outer([300, 600, 900], [1 / 3, 2 / 3, 1])
  np.testing.assert_allclose(walker.values, expected)
  assert found['crossq_wn, UTD 10']['hopper-hop'].values.shape == (2, 3)
  # The same seed of the same experiment is the same run.
  again = write(tmp_path / 'again', (300,), seed=1)
  with pytest.raises(ConfigError, match=r'seed 1 of walker-run.*again'):
    curves.evaluations([*read, curves.Run.read(again)])


def test_physics_of_the_run_serves_where_dm_control_is_missing(tmp_path):
  folder = write(tmp_path / 'a', (300,))
  path = folder / 'eval.csv'
  kept = [x for x in path.read_text().splitlines() if 'dm_control' not in x]
  path.write_text('\n'.join(kept) + '\n')
  found = curves.Run.read(folder).returns()
  assert found == {0: dict.fromkeys(STEPS, 1.0)}


DAMAGE = {
  'nan': '0,30000,dm_control,0,nan\n',
  'infinite': '0,20000,dm_control,0,-inf\n',
  'blank': '\n,,,,\n   \n',
  'cut': '0,30000,dm_control,0,4',
  'no numbers': 'a,b,dm_control,c,d\n1e3,2,mjx,0,1\n-1,10000,dm_control,0,5\n',
  'other physics': '0,30000,bullet,0,7\n',
  'too long': '0,30000,dm_control,0,7,8\n"0\n',
  'no text': '\0\udcff\0,1\n',
}


@pytest.mark.parametrize('damage', DAMAGE)
def test_damaged_lines_are_left_out(tmp_path, damage, capsys):
  folder = write(tmp_path / 'a', (300, 600))
  text = (folder / 'eval.csv').read_text().removesuffix('7,4000')
  text = (text + DAMAGE[damage]).encode(errors='surrogateescape')
  (folder / 'eval.csv').write_bytes(text)
  returns = dict.fromkeys((0, 1))
  for seed, last in ((0, 300), (1, 600)):
    returns[seed] = {s: pytest.approx(last * s / STEPS[-1]) for s in STEPS}
  lost = {'nan': 30_000, 'infinite': 20_000}.get(damage)
  returns[0].pop(lost, None)
  (run,) = drawing.runs([str(folder)])
  assert run.returns() == returns
  said = capsys.readouterr().out
  assert ('left out: 1 evaluation' in said) == (lost is not None)
  figures.task_grid(curves.evaluations([run]), ['walker-run'], {})
  plotting.learning_curve(folder / 'eval.csv', 'a', tmp_path / 'a.png')


def test_a_run_without_a_finite_return_is_refused(tmp_path):
  folder = write(tmp_path / 'a', (float('nan'), 600))
  with pytest.raises(ConfigError, match='a seed without any finite return'):
    curves.Run.read(folder).returns()
  plotting.learning_curve(folder / 'eval.csv', 'a', tmp_path / 'a.png')


def test_damaged_metrics_are_left_out(tmp_path):
  folder = write(tmp_path / 'a', (300,))
  path = folder / 'metrics.jsonl'
  before = curves.Run.read(folder).metrics(['*'])
  with path.open('ab') as file:
    for line in (
      *('', '3', '[]', 'null', '{"seed": [0], "env_step": 1, "diag/a": 1}'),
      *('{"seed": 0, "env_step": null, "diag/a": 1}', '[' * 9999, '\0'),
      '{"seed": 0, "env_step": 5000, "diag/a": NaN, "diag/b": Infinity}',
      '{"seed": 0, "env_step": 5000, "diag/a": 1' + '0' * 400 + '}',
    ):
      file.write(b'\n' + line.encode())
    file.write(b'\n\xff\n')
  assert curves.Run.read(folder).metrics(['*']) == before


def test_grids_are_aligned_without_extrapolation():
  fine = {step: float(step) for step in range(10, 101, 10)}
  coarse = {25: 0.0, 50: 5.0, 75: 0.0}
  found = curves.align([fine, coarse])
  np.testing.assert_array_equal(found.steps, [25, 50, 75])
  np.testing.assert_allclose(found.values, [[25, 50, 75], [0, 5, 0]])
  # A run that ended early ends the group, at its own last point.
  short = {10: 1.0, 20: 2.0, 30: 3.0, 40: 4.0, 55: 7.0}
  found = curves.align([coarse, short])
  np.testing.assert_array_equal(found.steps, [25, 50, 55])
  np.testing.assert_allclose(found.values, [[0, 5, 4], [2.5, 6, 7]])
  with pytest.raises(ValueError, match='begins'):
    curves.align([coarse, {80: 1.0}])
  part = found.until(52)
  np.testing.assert_array_equal(part.steps, [25, 50, 52])
  np.testing.assert_allclose(part.values[0], [0, 5, 4.6])
  assert found.until(55) is found


def test_diagnostics_leave_out_what_was_not_finite(tmp_path):
  run = curves.Run.read(write(tmp_path / 'a', (300, 600)))
  found = curves.diagnostics([run], ('diag/*', 'train/*'))
  assert list(found) == [
    'train/updates',
    'diag/weight_norm',
    'train/critic_loss',
  ]
  (label,) = found['diag/weight_norm']
  norm = found['diag/weight_norm'][label]['walker-run']
  assert norm.steps[0] == 5_000
  np.testing.assert_allclose(norm.values, [norm.steps, norm.steps + 1])
  loss = found['train/critic_loss'][label]['walker-run']
  assert loss.steps[0] == 10_000


def test_curves_over_time_and_updates(tmp_path):
  """At 10,000 env steps seed 0 has taken a minute, and seed 1 two."""
  run = curves.Run.read(write(tmp_path / 'a', (300, 600)))
  ((wall,),) = (
    by_task.values()
    for by_task in curves.evaluations([run], AXES['wall']).values()
  )
  np.testing.assert_allclose(wall.steps, [2, 3])
  np.testing.assert_allclose(wall.values, [[200, 300], [200, 300]])
  ((updates,),) = (
    by_task.values()
    for by_task in curves.evaluations([run], AXES['updates']).values()
  )
  np.testing.assert_allclose(updates.steps, [0, 100_000, 200_000])
  np.testing.assert_allclose(updates.values[1], [200, 400, 600])
  # A later evaluation than the last record is left out, not extrapolated.
  path = run.workdir / 'metrics.jsonl'
  path.write_text(''.join(path.read_text().splitlines(keepends=True)[:8]))
  found = curves.evaluations([run], AXES['updates'])
  np.testing.assert_allclose(
    found['crossq_wn, UTD 10']['walker-run'].steps, [0, 100_000]
  )
  path.unlink()
  with pytest.raises(ConfigError, match='seed 0: no update is recorded'):
    curves.evaluations([run], AXES['updates'])


def test_bands_and_comparison():
  steps = np.array([0.0, 10.0])
  values = np.linspace(0, 1000, 101)
  one = curves.Curves(steps, np.stack([0 * values, values], axis=1))
  band = summaries.over_seeds(one)
  np.testing.assert_allclose(
    [band.middle[1], band.low[1], band.high[1]], [500, 50, 950]
  )
  # The other task is twice as finely evaluated; its returns are all 800.
  level = curves.Curves(np.array([0.0, 5.0, 10.0]), np.full((101, 3), 800.0))
  tasks = {'a-a': one, 'b-b': level}
  pooled = summaries.over_tasks(tasks)
  np.testing.assert_array_equal(pooled.steps, steps)
  assert pooled.low[1] < pooled.middle[1] < pooled.high[1]
  # Of 0, .01 ... 1 and 101 times .8, the 50 lowest are 0 ... .49 and the 50
  # highest .81 ... 1 and 30 times .8.
  expected = (np.arange(50, 80).sum() / 100 + 0.8 * 72) / 102
  assert pooled.middle[1] == pytest.approx(expected)
  labelled = {'x': tasks, 'y': {'b-b': level.until(5)}}
  assert summaries.common_tasks(labelled | {'z': tasks}) == ['b-b']
  assert summaries.last_common_step(labelled, ['b-b']) == 5
  compared = summaries.compare(labelled, ['b-b'], 5)
  assert compared['y'].runs == 101
  assert compared['y'].values['optimality gap'] == pytest.approx((0.2,) * 3)
  at_7 = summaries.compare({'x': tasks}, ['a-a'], 7)['x'].values
  assert at_7['mean'][0] == pytest.approx(0.35)
  assert at_7['mean'][1] < 0.35 < at_7['mean'][2]
  assert '| x | 101 | 0.350 (0.' in summaries.table(
    summaries.compare({'x': tasks}, ['a-a'], 7)
  )
  with pytest.raises(ConfigError, match='--at_step'):
    summaries.compare(labelled, ['b-b'], 7)


def text_of(path):
  """The words of an SVG."""
  return re.findall(r'<text[^>]*>([^<]+)</text>', path.read_text())


def test_draws_runs_beside_published_ones(tmp_path):
  write(tmp_path / 'a', (300, 600))
  write(tmp_path / 'b', (90, 95), task='dog-run')
  write(tmp_path / 'c', (400, 500), task='dog-walk')
  prefix = tmp_path / 'figure'
  done = programs.run(
    'plot',
    f'--workdirs={tmp_path / "[abc]*"}',
    '--baselines=BRO_utd10',
    '--diagnostics',
    '--table',
    '--replicates=50',
    f'--output={prefix}',
  )
  assert done.returncode == 0, done.stderr
  names = ('tasks', 'aggregate', 'diagnostics')
  for name in names:
    image = (tmp_path / f'figure_{name}.png').read_bytes()
    assert image.startswith(b'\x89PNG') and len(image) > 5000
  tasks, aggregate, diagnostics = (
    text_of(tmp_path / f'figure_{name}.svg') for name in names
  )
  for title in ('walker-run', 'dog-run', 'dog and humanoid, 2 tasks'):
    assert title in tasks
  for text in (tasks, aggregate):
    assert {'env steps', 'IQM of return / 1000'} <= {*text}
    assert 'crossq_wn, UTD 10 (2 runs)' in text
    assert 'BRO, UTD 10, published (10 runs)' in text
  # What is published goes on to 1M; the figure ends where the runs do.
  assert '30k' in tasks and '1M' not in tasks
  assert '3 tasks at 30,000 env steps' in aggregate
  assert {'IQM', 'median', 'mean', 'optimality gap'} <= {*aggregate}
  assert {'return', 'weight norm', 'critic loss'} <= {*diagnostics}
  assert 'updates' not in diagnostics
  ours = (600 + 300 + 400 + 500 + 90 + 95) / 6000
  row = re.search(
    r'crossq_wn, UTD 10 \| 6 \|.*', done.stdout.split('3 tasks')[1]
  )
  assert row and f'| {ours:.3f} (' in row[0]
  with (tmp_path / 'figure_table.csv').open() as file:
    table = {
      (r['tasks'], r['label'], r['env_step']): r for r in csv.DictReader(file)
    }
  pooled = table['3 tasks', 'crossq_wn, UTD 10', '30000']
  middle = (95 + 300 + 400 + 500) / 4000  # without the least and the largest
  assert float(pooled['iqm']) == pytest.approx(middle, abs=1e-4)
  assert ('dog-run', 'BRO, UTD 10, published', '30000') in table
  assert '## 30,000 env steps' in (tmp_path / 'figure_table.md').read_text()


def test_draws_over_time(tmp_path):
  run = write(tmp_path / 'a', (300, 600))
  done = programs.run(
    'plot',
    f'--workdirs={run}',
    '--x=wall',
    '--at_step=2.5',
    '--diagnostics',
    '--replicates=50',
    f'--output={tmp_path / "p"}',
  )
  assert done.returncode == 0, done.stderr
  assert 'walker-run, return / 1000 at 2.5 wall-clock minutes' in done.stdout
  assert '| crossq_wn, UTD 10 | 2 | 0.250 (' in done.stdout
  for name in ('tasks', 'aggregate', 'diagnostics'):
    text = text_of(tmp_path / f'p_{name}.svg')
    assert 'wall-clock minutes' in text and 'env steps' not in text


def test_the_best_published_ones_that_have_all_tasks():
  assert drawing.best({'a': {'dog-run': 0}}) == ['DR.Q', 'FlashSAC']
  assert drawing.best({'a': {'dog-run': 0}, 'b': {'walker-run': 0}}) == ['DR.Q']
  assert drawing.best({'a': {'brax:ant': 0}}) == drawing.best({}) == []


def test_baselines_alone(tmp_path):
  done = programs.run(
    'plot',
    '--baselines=BRO_utd10,SAC_utd32_resets',
    '--tasks=humanoid,dog-run,walker-run',
    '--at_step=500000',
    '--replicates=50',
    f'--output={tmp_path / "p"}',
  )
  assert done.returncode == 0, done.stderr
  assert 'range shown: SAC, UTD 32, resets, published, dog-run' in done.stdout
  assert '4 tasks, return / 1000 at 500,000 env steps' in done.stdout
  text = text_of(tmp_path / 'p_tasks.svg')
  assert {'humanoid-run', 'humanoid-walk', 'dog-run', '1M'} <= {*text}
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'p_aggregate.png',
    'p_aggregate.svg',
    'p_tasks.png',
    'p_tasks.svg',
  ]


def test_a_figure_is_the_same_bytes_again(tmp_path):
  from mjx_crossq.results import plotting

  bro = {'BRO': baselines.load('BRO_utd10', ['hopper-hop'])}
  files = [
    plotting.save(figures.task_grid(bro, ['hopper-hop'], {}), tmp_path / name)
    for name in ('a', 'b')
  ]
  for first, second in zip(*files, strict=True):
    assert first.read_bytes() == second.read_bytes()


def test_more_labels_than_colours_stay_apart():
  from mjx_crossq.results import plotting

  styles = plotting.line_styles([str(i) for i in range(20)])
  assert len({*styles.values()}) == 20
  shown = [plotting.short_number(x) for x in (0, 500, 25e3, 1e6, 1.25e6)]
  assert shown == ['0', '500', '25k', '1M', '1.25M']


def test_bad_input_is_one_line_and_writes_nothing(tmp_path):
  good = write(tmp_path / 'good', (300,))
  (tmp_path / 'empty').mkdir()
  unread = write(tmp_path / 'unread', (300,))
  (unread / 'config.json').write_text('{')
  young = write(tmp_path / 'young', (300,))
  (young / 'eval.csv').write_text('seed,env_step,physics,episode\n')
  (tmp_path / 'out').mkdir()
  out = f'--output={tmp_path / "out" / "figure"}'
  ours, bro = f'--workdirs={good}', '--baselines=BRO_utd10'
  cases = {
    (ours,): '--output is needed',
    (out,): 'give --workdirs, --baselines, or both',
    (ours, f'--output={tmp_path / "no" / "figure"}'): 'create it first',
    (ours, f'--output={tmp_path / "out"}'): 'add a name',
    (out, f'--workdirs={tmp_path / "none"}'): 'has no config.json',
    (out, f'--workdirs={tmp_path}/x*'): 'matches no folder',
    (out, f'--workdirs={tmp_path / "empty"}'): 'launch.train wrote',
    (out, f'--workdirs={unread}'): 'cannot be read',
    (out, f'--workdirs={young}'): 'has no evaluation yet',
    (out, '--baselines=BRO'): "did you mean 'BRO_utd2'",
    (out, ours, '--tasks=walker-rnu'): "did you mean 'walker-run'",
    (out, bro, '--tasks=cartpole-swingup'): 'unknown task',
    (out, bro, '--x=wall'): 'leave --baselines out',
    (out, ours, '--x=hours'): 'wall',
    (out, ours, '--x=wall', '--table'): 'leave --x out',
    (out, bro, '--table'): 'give --workdirs',
    (out, bro, '--diagnostics'): 'no run in --workdirs logged',
    (out, ours, '--diagnostics', '--series=diag/x'): 'logged diag/x',
    (out, ours, '--at_step=40000'): 'choose another --at_step',
  }
  programs.check_errors('plot', cases)
  done = programs.run('plot', out, '--baselines=BRO')
  assert done.returncode == 2
  assert done.stderr.startswith("error: unknown baseline 'BRO'; did you mean")
  assert done.stderr.count('\n') == 1
  assert not list((tmp_path / 'out').iterdir())


def test_help():
  assert '--baselines' in programs.run('plot', '--help').stdout
