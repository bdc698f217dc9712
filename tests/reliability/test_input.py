"""Random input: one line and exit code 2, never a traceback, nothing written.

Hypothesis draws the cases and shrinks what fails; every run tries the same.
"""

import itertools
import json
import os

import hypothesis
import pytest
from hypothesis import strategies as st

from mjx_crossq import Config, ConfigError, from_preset
from mjx_crossq import config as config_lib
from mjx_crossq.config import FIELDS
from mjx_crossq.host import run as loop
from mjx_crossq.host.workdir import own_workdir
from mjx_crossq.launch import preview
from tests.launch import programs
from tests.reliability import runs

# Edges of every parser that a text goes through; then any text at all.
EDGES = (
  *('', ' ', '0', '-1', '1', '7', '1.5', '1e3', '1E3', '1e400', '-0', 'nan'),
  *('inf', '-inf', 'Infinity', '1_000', '0x10', '٣', '9' * 30, '9' * 400),
  *('true', 'FALSE', 'yes', 'None', 'null', '[]', '{}', '[1, 2]', '1,2', ','),
  *('=', '==', 'a=b', '--', '..', '/', '\\', '%s', '{0}', '$HOME', '`id`'),
  *('é', '機械', '\u202e', '\n', 'x' * 5000, 'batch', 'crossq', 'warp', 'tf32'),
)
WORDS = st.one_of(
  st.sampled_from(EDGES),
  st.integers().map(str),
  st.floats().map(str),
  st.text(max_size=20),
)
FIELD = st.sampled_from([*FIELDS])
JSON = st.recursive(
  st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), WORDS),
    st.sampled_from([10**400, -1e308]),
  ),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner),
  max_leaves=4,
)


def cases(count):
  """The same `count` cases in every run, as slow as they may be."""
  return hypothesis.settings(
    max_examples=count,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )


@st.composite
def mutated(draw, texts):
  """A text with a letter added, dropped or changed; or any word."""
  text = draw(texts)
  at = draw(st.integers(0, len(text)))
  letter = draw(st.characters(min_codepoint=32, max_codepoint=126))
  return draw(
    st.sampled_from(
      [
        text[:at] + letter + text[at:],
        text[:at] + text[at + 1 :],
        text[:at] + letter + text[at + 1 :],
      ]
    )
    | WORDS
  )


@st.composite
def assignments(draw):
  """`key=value`, nearly always of a field."""
  name = draw(FIELD | FIELD | FIELD | mutated(FIELD))
  return f'{name}={draw(WORDS)}'


@cases(2000)
@hypothesis.given(assignments() | WORDS)
def test_assignments_are_typed_or_refused(assignment):
  try:
    changes = config_lib.parse_assignments([assignment])
    config = from_preset('crossq_wn', **changes)
  except ConfigError as error:
    assert str(error)
    return
  # What is accepted survives the round trip through a file.
  again = json.loads(json.dumps(config.to_dict()))
  assert Config.from_dict(again) == config
  assert config.iterations >= 1 and config.replay_rows >= 1


WHOLE = json.dumps({'config': from_preset('sac').to_dict(), 'versions': {}})


@st.composite
def config_files(draw):
  """A wrong value, a flipped bit, a cut; or something else."""
  record = json.loads(WHOLE)
  record['config'][draw(FIELD)] = draw(JSON)
  damaged = bytearray(WHOLE.encode())
  damaged[draw(st.integers(0, len(damaged) - 1))] ^= draw(
    st.sampled_from([1 << bit for bit in range(8)])
  )
  cut = damaged[: draw(st.integers(1, 2 * len(damaged)))]
  return draw(
    st.sampled_from([json.dumps(record).encode(), bytes(cut)])
    | JSON.map(json.dumps).map(str.encode)
  )


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  return tmp_path_factory.mktemp('configs') / 'config.json'


def test_a_configuration_comes_back_from_its_file(path):
  path.write_text(WHOLE)
  assert config_lib.load(path)[0] == from_preset('sac')


@cases(1500)
@hypothesis.given(content=config_files())
def test_configurations_from_files_are_typed_or_refused(path, content):
  path.write_bytes(content)
  try:
    config, _ = config_lib.load(path)
  except ConfigError as error:
    assert 'config.json' in str(error)
  else:
    assert Config.from_dict(config.to_dict()) == config


def tree(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


FOREIGN = ('thesis.tex', 'config.json', 'checkpoints/1/x', '.git/HEAD')


@pytest.fixture(scope='module')
def fresh(tmp_path_factory):
  """Makes a new folder in each call."""
  base = tmp_path_factory.mktemp('foreign')
  numbers = itertools.count()

  def make():
    folder = base / str(next(numbers))
    folder.mkdir()
    return folder

  return make


@cases(600)
@hypothesis.given(
  names=st.sets(st.sampled_from(FOREIGN), min_size=1),
  text=WORDS | st.integers(1, 200).map(lambda cut: WHOLE[:-cut]),
  resume=st.booleans(),
)
def test_foreign_folders_are_refused_and_not_touched(
  fresh, names, text, resume
):
  workdir = fresh()
  for name in names:
    (workdir / name).parent.mkdir(parents=True, exist_ok=True)
    (workdir / name).write_bytes(text.encode())
  before = tree(workdir)
  with (
    pytest.raises(ConfigError) as error,
    own_workdir(workdir, runs.config(), resume),
  ):
    pass
  assert '\n' not in str(error.value)
  assert tree(workdir) == before


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
    loop.train(other, runs.env(), workdir=tmp_path / 'run', resume=True)
  assert tree(tmp_path) == before


def test_locks_exclude_and_end_with_their_owner(tmp_path):
  config = runs.config()
  taken = f'process .id {os.getpid()}. trains'
  first, second = (own_workdir(tmp_path / 'run', config, True) for _ in '12')
  with first, pytest.raises(ConfigError, match=taken), second:
    pass
  with own_workdir(tmp_path / 'run', config, resume=True):
    pass


def _shows_nothing(program):
  """In the process of `launch.train`: a dry run computes nothing."""
  assert program.__name__.endswith('.train')
  preview.dry_run = lambda *_, **__: None


@pytest.fixture(scope='module')
def train_flags(tmp_path_factory):
  """Reads flags as `launch.train` does: exit code, output and errors."""
  folder = tmp_path_factory.mktemp('nothing')
  with programs.called('train', folder, _shows_nothing) as call:
    yield call
  assert not list(folder.iterdir())


FLAGS = (
  *('task', 'preset', 'num_seeds', 'seed', 'num_envs', 'env_steps', 'utd'),
  *('action_repeat', 'eval_every', 'log_every', 'workdir', 'set', 'resume'),
  *('physics', 'matmul_precision', 'checkpoint_every', 'debug_nans'),
)
TASKS = ('cartpole-swingup', 'pendulum-swingup', 'cheetah-run', 'dog-run')


@st.composite
def flag(draw):
  """`--name=value`; some names and tasks have a wrong letter."""
  name = draw(st.sampled_from(FLAGS))
  value = draw(WORDS)
  if name == 'task':
    value = draw(mutated(st.sampled_from(TASKS)))
  if name == 'set':
    value = draw(assignments())
  if not draw(st.integers(0, 4)):
    name = draw(mutated(st.just(name)))
  return f'--{name}={value}'


@cases(700)
@hypothesis.given(argv=st.lists(flag(), min_size=1, max_size=3))
def test_flags_are_read_or_refused(train_flags, argv):
  code, _, errors = train_flags(*argv, '--dry_run')
  assert code in (0, 2)
  if code == 2:
    assert errors.count('\n') == 1
    assert errors.startswith('error: ')
