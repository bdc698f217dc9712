"""What trackers make of a run's files."""

import functools
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing import event_accumulator

from mjx_crossq import ConfigError, from_preset
from mjx_crossq.host import progress, trackers
from mjx_crossq.host.run_files import RunFiles

CONFIG = from_preset('quickstart', seed=3, num_seeds=2, eval_episodes=2)


class Recorder:
  """A sink that keeps what it is given."""

  def __init__(self, workdir, config):
    del workdir, config
    self.written, self.closed = [], False

  def write(self, kind, step, groups):
    self.written.append((kind, step, groups))

  def close(self):
    self.closed = True


def records(step, values):
  for seed, value in zip((3, 4), values, strict=True):
    yield {'seed': seed, 'env_step': step, 'train/q': value, 'time/rate': 2.0}


def write(workdir, resumed_at, steps):
  """A run's files: q is the step times the row, one return each."""
  with RunFiles(workdir, CONFIG, resumed_at) as files:
    for step in steps:
      files.write_metrics(records(step, (step, 2.0 * step)))
      returns = np.array([[1.0, 2.0], [3.0, 6.0]]) * step
      files.write_evaluation((3, 4), step, {'mjx': returns})


def test_follower_hands_over_whole_groups_once(tmp_path):
  follower = trackers.Follower(tmp_path, CONFIG, Recorder)
  with RunFiles(tmp_path, CONFIG, 0) as files:
    follower(0)
    sink = follower._sink
    assert isinstance(sink, Recorder) and sink.written == []
    files.write_metrics(records(10, (1.0, float('nan'))))
    mine = np.array([[1, 3], [5, 9]])
    files.write_evaluation((3, 4), 10, {'mjx': mine})
    files.write_evaluation((3,), 10, {'dm_control': mine[:1]})
    follower(10)
    with (tmp_path / 'metrics.jsonl').open('a') as torn:
      torn.write('{"seed": 3, "env_st')
      torn.flush()
      follower(20)
      torn.write('ep": 20, "train/q": 5}\n')
    follower(20)
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"seed": 4, "env_step": 20, "train/q": 7}\n')
  follower.close()
  assert sink.closed
  assert sink.written == [
    (
      'metrics',
      10,
      {
        'seed3': {'train/q': 1.0, 'time/rate': 2.0},
        'seed4': {'time/rate': 2.0},
        'mean': {'train/q': 1.0, 'time/rate': 2.0},
      },
    ),
    (
      'mjx',
      10,
      {
        'seed3': {'eval/return_mjx': 2.0},
        'seed4': {'eval/return_mjx': 7.0},
        'mean': {'eval/return_mjx': 4.5},
      },
    ),
    (
      'metrics',
      20,
      {
        'seed3': {'train/q': 5},
        'seed4': {'train/q': 7},
        'mean': {'train/q': 6.0},
      },
    ),
  ]


def test_refused_folder_is_not_touched(tmp_path):
  theirs = tmp_path / 'tensorboard' / 'thesis.tex'
  theirs.parent.mkdir()
  theirs.write_text('do not touch')
  trackers.Follower(tmp_path, CONFIG, trackers.TensorBoard).close()
  assert theirs.read_text() == 'do not touch'
  assert list(tmp_path.iterdir()) == [theirs.parent]


def test_failing_sink_is_left_and_said_once(tmp_path):
  class Full(Recorder):
    def write(self, kind, step, groups):
      raise OSError('no space')

  lines = []
  follower = trackers.Follower(tmp_path, CONFIG, Full, lines.append)
  write(tmp_path, 0, (10,))
  follower(10)
  follower(20)
  follower.close()
  assert lines == ['Full failed (no space); the run goes on without it']


def scalars(folder, name):
  events = event_accumulator.EventAccumulator(str(folder))
  events.Reload()
  return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_holds_each_point_once_after_a_resume(tmp_path):
  for resumed_at, steps in ((0, (10, 20, 30)), (20, (30, 40))):
    write(tmp_path, resumed_at, steps)
    follower = trackers.Follower(tmp_path, CONFIG, trackers.TensorBoard)
    follower(0)
    follower.close()
  folder = tmp_path / 'tensorboard'
  assert {path.name for path in folder.iterdir()} == {'mean', 'seed3', 'seed4'}
  steps = (10, 20, 30, 40)
  assert scalars(folder / 'seed4', 'train/q') == [(s, 2 * s) for s in steps]
  assert scalars(folder / 'mean', 'train/q') == [(s, 1.5 * s) for s in steps]
  returns = scalars(folder / 'mean', 'eval/return_mjx')
  assert returns == [(s, 3 * s) for s in steps]


def test_tensorboard_shows_a_gif(tmp_path):
  gif = tmp_path / 'policy.gif'
  frames = [Image.new('RGB', (6, 4), color) for color in ('red', 'blue')]
  frames[0].save(gif, save_all=True, append_images=frames[1:])
  write(tmp_path, 0, (10,))
  follower = trackers.Follower(tmp_path, CONFIG, trackers.TensorBoard)
  follower.video(gif, 10)  # before the run began: nothing to show it in
  follower(0)
  follower.video(gif, 10)
  follower.close()
  folder = str(tmp_path / 'tensorboard' / 'mean')
  events = event_accumulator.EventAccumulator(folder)
  events.Reload()
  (shown,) = events.Images('policy')
  assert (shown.step, shown.width, shown.height) == (10, 6, 4)
  assert shown.encoded_image_string == gif.read_bytes()


@pytest.fixture
def wandb_runs(monkeypatch):
  """What each `wandb.init` started, and the summary that the next one finds."""
  runs, summary = [], {}

  def init(**settings):
    run = types.SimpleNamespace(
      id='abc',
      settings=settings,
      logged=[],
      summary=dict(summary),
      define_metric=lambda *args, **kwargs: None,
      finish=lambda: None,
    )
    run.log = run.logged.append
    runs.append(run)
    folder = Path(settings['dir']) / 'wandb' / f'offline-run-{len(runs)}-abc'
    folder.mkdir(parents=True)
    return run

  wandb = types.SimpleNamespace(init=init, Settings=dict)
  monkeypatch.setitem(sys.modules, 'wandb', wandb)
  return runs, summary


def mirror(workdir, mode, *parts):
  """A run in several processes, from an env step with records of others."""
  sink = functools.partial(trackers.WandB, mode=mode)
  for resumed_at, steps in parts:
    write(workdir, resumed_at, steps)
    follower = trackers.Follower(workdir, CONFIG, sink)
    follower(0)
    follower.close()


def assert_logged(run, steps):
  logged = [x for x in run.logged if 'mean/train/q' in x]
  assert [x['env_step'] for x in logged] == [*steps]
  assert [x['seed4/train/q'] for x in logged] == [2 * s for s in steps]
  logged = [x for x in run.logged if 'seed3/eval/return_mjx' in x]
  assert [x['env_step'] for x in logged] == [*steps]


# Killed at 30, it goes on from 20; 40 is the first that is new.
PARTS = (0, (10, 20, 30)), (20, (30, 40))


def test_wandb_goes_on_where_it_was(tmp_path, wandb_runs):
  runs, summary = wandb_runs
  summary['env_step'] = 30
  mirror(tmp_path, 'online', *PARTS)
  first, second = runs
  assert first.settings['id'] is None and second.settings['id'] == 'abc'
  assert second.settings['config']['seed'] == 3
  assert_logged(first, (10, 20, 30))
  assert_logged(second, (40,))
  state = json.loads((tmp_path / 'wandb.json').read_text())
  assert state == {'id': 'abc', 'last': {'metrics': 40, 'mjx': 40}}


def test_wandb_sends_again_what_did_not_arrive(tmp_path, wandb_runs):
  runs, summary = wandb_runs
  summary['env_step'] = 20
  mirror(tmp_path, 'online', *PARTS)
  assert_logged(runs[1], (20, 30, 40))


def test_wandb_offline_has_one_file_with_every_point(tmp_path, wandb_runs):
  """A killed process may have left its file empty."""
  mirror(tmp_path, 'offline', *PARTS)
  assert_logged(wandb_runs[0][1], (10, 20, 30, 40))
  assert [x.name for x in (tmp_path / 'wandb').iterdir()] == [
    'offline-run-2-abc'
  ]


def test_wandb_is_refused_before_the_run(monkeypatch):
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(ConfigError, match='extra logging'):
    trackers.check_wandb('offline')
  found = types.SimpleNamespace(api=types.SimpleNamespace(api_key=None))
  monkeypatch.setitem(sys.modules, 'wandb', found)
  trackers.check_wandb('offline')
  with pytest.raises(ConfigError, match='nobody is logged in'):
    trackers.check_wandb('online')


@pytest.mark.parametrize('terminal', [True, False])
def test_bar_is_for_terminals(terminal):
  stream = io.StringIO()
  stream.isatty = lambda: terminal
  bar = progress.Bar(1000, stream)
  bar(100)
  bar(600)
  bar.close()
  if terminal:
    assert '10%' in stream.getvalue() and '100/1.00k' in stream.getvalue()
  else:
    assert stream.getvalue() == ''
