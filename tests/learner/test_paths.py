"""Paths of flags and of functions: `~` is expanded, a URL refused."""

import ast
import os
import re
from pathlib import Path

import pytest

from mjx_crossq import ConfigError, launch, load_policy
from mjx_crossq.host import dumps
from mjx_crossq.host import run as loop
from mjx_crossq.launch.jobs import grid
from mjx_crossq.paths import local
from mjx_crossq.results import curves
from tests.launch import programs
from tests.reliability import runs

URLS = (
  'gs://bucket/runs',
  's3://bucket/runs',
  'file:///tmp/runs',
  'https://example.org/p.json',
)


def test_home_folders(monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  assert local('~/runs') == '/home/me/runs'
  assert local('~') == '/home/me'
  assert local('~root/x') == os.path.expanduser('~root/x') != '~root/x'
  with pytest.raises(ConfigError, match='user that is unknown'):
    local('~nobody-of-this-name/x')


@pytest.mark.parametrize(
  'path', ['', 'a/~b', 'runs/a=1:2', 'c:/x', './~x', '/']
)
def test_other_paths_stay(path):
  assert local(path) == path


@pytest.mark.parametrize('url', URLS)
def test_functions_refuse_urls(url, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  calls = (
    lambda x: loop.train(runs.config(), runs.env(), workdir=x),
    lambda x: load_policy(x, lambda *args, **kwargs: runs.env()),
    curves.Run.read,
    dumps.load,
  )
  for call in calls:
    for path in (url, Path(url)):
      with pytest.raises(ConfigError, match='is a URL'):
        call(path)
  assert not list(tmp_path.iterdir())


def test_a_sweep_file_too(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', '/home/me')
  file = tmp_path / 'sweep.yaml'
  file.write_text('utd: 1\nworkdir: ~/runs\n')
  assert grid.read(str(file))[1]['workdir'] == '/home/me/runs'
  file.write_text('utd: 1\nworkdir: gs://bucket/runs\n')
  with pytest.raises(ConfigError, match='is a URL'):
    grid.read(str(file))


PROGRAMS = {
  'benchmark': ('compilation_cache', 'json', 'plot', 'profile'),
  'evaluate': ('compilation_cache', 'workdir'),
  'export': ('compilation_cache', 'output', 'workdir'),
  'inspect': ('compilation_cache', 'hlo', 'json'),
  'parity': ('compilation_cache', 'json', 'policy', 'report'),
  'plot': ('compilation_cache', 'output', 'workdirs'),
  'render': ('compilation_cache', 'output', 'workdir'),
  'report': ('compilation_cache', 'output', 'workdirs'),
  'reproduce': ('benchmark', 'compilation_cache', 'output', 'workdir'),
  'sweep': ('benchmark', 'compilation_cache', 'file', 'output', 'workdir'),
  'train': ('compilation_cache', 'init_from', 'init_replay', 'workdir'),
  'view': ('compilation_cache', 'workdir'),
}


@pytest.mark.parametrize('program', PROGRAMS)
def test_flags_refuse_urls(program):
  cases = {
    (f'--{flag}={url}',): f'{url} is a URL'
    for flag, url in zip(PROGRAMS[program], URLS * 2, strict=False)
  }
  programs.check_errors(program, cases)


def definitions(program):
  """Function, name and description of each flag of a program's source."""
  source = Path(launch.__file__).with_name(f'{program}.py').read_text()
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
      owner = ast.unparse(node.func.value)
      if owner in ('flags', 'path_flags'):
        name, doc = (ast.unparse(node.args[i]) for i in (0, 2))
        yield f'{owner}.{node.func.attr}', ast.literal_eval(name), doc


@pytest.mark.parametrize('program', PROGRAMS)
def test_every_flag_that_speaks_of_files_is_one_of_paths(program):
  found = ['compilation_cache']
  for function, name, doc in definitions(program):
    if function.startswith('path_flags'):
      found.append(name)
    elif 'string' in function or 'list' in function:
      assert not re.search(r'\b(file|folder|workdir)s?\b', doc), (name, doc)
  assert tuple(sorted(found)) == PROGRAMS[program]


def test_programs_expand_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('HOME', str(tmp_path))
  monkeypatch.chdir(tmp_path)
  done = programs.run(
    'plot', '--baselines=BRO_utd10', '--tasks=dog-run', '--output=~/mine'
  )
  assert done.returncode == 0, done.stderr
  names = {path.name for path in tmp_path.iterdir()}
  assert 'mine_tasks.png' in names and '~' not in names, names
