"""Random input: one line and exit code 2, never a traceback, nothing written.

The cases are drawn by seeded generators, so that every run tries the same.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mjx_crossq import Config, ConfigError, from_preset, loop
from mjx_crossq import config as config_lib
from mjx_crossq.config import FIELDS
from mjx_crossq.workdir import own_workdir
from tests.reliability import runs

WORDS = (
  *('', ' ', '0', '-1', '1', '7', '1.5', '1e3', '1E3', '1e400', '-0', 'nan'),
  *('inf', '-inf', 'Infinity', '1_000', '0x10', '٣', '9' * 30, '9' * 400),
  *('true', 'FALSE', 'yes', 'None', 'null', '[]', '{}', '[1, 2]', '1,2', ','),
  *('=', '==', 'a=b', '--', '..', '/', '\\', '%s', '{0}', '$HOME', '`id`'),
  *('é', '機械', '\u202e', '\n', 'x' * 5000, 'batch', 'crossq', 'warp', 'tf32'),
)
VALUES = (
  *(None, True, False, 0, -1, 3, 10**40, 1.5, 1e308, -1e308, float('nan')),
  *(float('inf'), [], [1], [1.5], ['x'], {}, {'a': 1}, *WORDS),
)


def mutated(rng, text):
  """A letter added, dropped or changed; or any word."""
  at = int(rng.integers(len(text) + 1))
  letter = chr(int(rng.integers(32, 127)))
  return [
    text[:at] + letter + text[at:],
    text[:at] + text[at + 1 :],
    text[:at] + letter + text[at + 1 :],
    str(rng.choice(WORDS)),
  ][rng.integers(4)]


def test_assignments_are_typed_or_refused():
  rng = np.random.default_rng(0)
  names = [*FIELDS]
  refused = 0
  for _ in range(2000):
    name = str(rng.choice(names))
    if rng.random() < 0.2:
      name = mutated(rng, name)
    text = str(rng.choice(WORDS))
    assignment = f'{name}={text}' if rng.random() < 0.95 else text
    try:
      changes = config_lib.parse_assignments([assignment])
      config = from_preset('crossq_wn', **changes)
    except ConfigError as error:
      assert str(error)
      refused += 1
      continue
    # What is accepted survives the round trip through a file.
    again = json.loads(json.dumps(config.to_dict()))
    assert Config.from_dict(again) == config
    assert config.iterations >= 1 and config.replay_rows >= 1
  assert 500 < refused < 1900


def test_configurations_from_files_are_typed_or_refused(tmp_path):
  rng = np.random.default_rng(1)
  path = tmp_path / 'config.json'
  whole = json.dumps({'config': from_preset('sac').to_dict(), 'versions': {}})
  path.write_text(whole)
  assert config_lib.load(path)[0] == from_preset('sac')
  refused = 0
  for case in range(1500):
    if case % 3 == 0:  # a wrong value
      record = json.loads(whole)
      name = str(rng.choice([*FIELDS]))
      record['config'][name] = VALUES[rng.integers(len(VALUES))]
      content = json.dumps(record).encode()
    elif case % 3 == 1:  # a damaged file
      damaged = bytearray(whole.encode())
      damaged[rng.integers(len(damaged))] ^= 1 << int(rng.integers(8))
      content = bytes(damaged[: rng.integers(1, 2 * len(damaged))])
    else:  # something else
      content = json.dumps(VALUES[rng.integers(len(VALUES))]).encode()
    path.write_bytes(content)
    try:
      config, _ = config_lib.load(path)
    except ConfigError as error:
      assert 'config.json' in str(error)
      refused += 1
    else:
      assert Config.from_dict(config.to_dict()) == config
  assert refused > 700


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


@pytest.mark.parametrize('resume', [False, True])
def test_foreign_folders_are_refused_and_not_touched(tmp_path, resume):
  rng = np.random.default_rng(2)
  config = runs.config()
  whole = json.dumps({'config': config.to_dict()})
  refused = 0
  for case in range(300):
    workdir = tmp_path / str(case)
    workdir.mkdir()
    for _ in range(rng.integers(1, 4)):
      name = ['thesis.tex', 'config.json', 'checkpoints/1/x', '.git/HEAD'][
        rng.integers(4)
      ]
      (workdir / name).parent.mkdir(parents=True, exist_ok=True)
      text = str(rng.choice(WORDS)) if rng.random() < 0.5 else whole[:-case]
      (workdir / name).write_text(text)
    before = tree(workdir)
    with (
      pytest.raises(ConfigError) as error,
      own_workdir(workdir, config, resume),
    ):
      pass
    assert '\n' not in str(error.value)
    assert tree(workdir) == before
    refused += 1
  assert refused == 300


def test_a_run_is_not_overwritten(tmp_path):
  config = runs.config()
  with own_workdir(tmp_path / 'run', config, resume=True):
    pass
  before = tree(tmp_path)
  other = config.replace(gamma=0.5)
  for bad, resume in ((config, False), (other, True)):
    with pytest.raises(ConfigError), own_workdir(tmp_path / 'run', bad, resume):
      pass
  with pytest.raises(ConfigError, match='other settings: gamma'):
    loop.train(other, runs.env(), tmp_path / 'run', resume=True)
  assert tree(tmp_path) == before


def test_locks_exclude_and_end_with_their_owner(tmp_path):
  config = runs.config()
  taken = f'process .id {os.getpid()}. trains'
  first, second = (own_workdir(tmp_path / 'run', config, True) for _ in '12')
  with first, pytest.raises(ConfigError, match=taken), second:
    pass
  with own_workdir(tmp_path / 'run', config, resume=True):
    pass


DRIVER = """
import contextlib, functools, io, json, os, sys
from absl import flags
import envs
from launch import train
from mjx_crossq import loop

envs.load = functools.cache(envs.load)
train.dry_run = lambda config, env: None
loop.train = None  # no case may come so far
for argv in json.load(sys.stdin):
  flags.FLAGS.unparse_flags()
  for name in flags.FLAGS:
    flags.FLAGS[name].unparse()
  sys.argv = ['train', *argv, '--dry_run']
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    try:
      train.run()
      code = 0
    except SystemExit as stop:
      code = stop.code or 0
    except BaseException as error:
      code = repr(error)
  lines = err.getvalue().splitlines()
  wrong = code not in (0, 2) or (code == 2) != (len(lines) == 1)
  if wrong or (code == 2 and not lines[0].startswith('error: ')):
    print('WRONG', argv, code, lines)
  print('code', code)
"""


def test_flags_are_read_or_refused(tmp_path):
  rng = np.random.default_rng(3)
  names = [
    *('task', 'preset', 'num_seeds', 'seed', 'num_envs', 'env_steps', 'utd'),
    *('action_repeat', 'eval_every', 'log_every', 'workdir', 'set', 'resume'),
    *('physics', 'matmul_precision', 'checkpoint_every', 'debug_nans'),
  ]
  tasks = ('cartpole-swingup', 'pendulum-swingup', 'cheetah-run', 'dog-run')
  cases = []
  for _ in range(700):
    argv = []
    for _ in range(rng.integers(1, 4)):
      name = str(rng.choice(names))
      value = str(rng.choice(WORDS))
      if name == 'task':
        value = mutated(rng, str(rng.choice(tasks)))
      if name == 'set':
        value = f'{rng.choice([*FIELDS])}={value}'
      if rng.random() < 0.2:
        name = mutated(rng, name)
      argv.append(f'--{name}={value}'.replace('\n', ' '))
    cases.append(argv)
  done = subprocess.run(
    [sys.executable, '-c', DRIVER],
    input=json.dumps(cases),
    capture_output=True,
    text=True,
    timeout=1200,
    cwd=tmp_path,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': os.getcwd()},
  )
  assert done.returncode == 0, done.stderr[-2000:]
  lines = done.stdout.splitlines()
  assert not [line for line in lines if line.startswith('WRONG')]
  assert lines.count('code 2') + lines.count('code 0') == len(cases)
  assert lines.count('code 2') > 400
  assert not list(tmp_path.iterdir())
