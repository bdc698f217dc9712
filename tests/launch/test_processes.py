"""Processes that programs start, beside foreign folders and modules."""

import json
import subprocess
import sys

import pytest

from mjx_crossq import from_preset
from mjx_crossq.envs import opengl, processes
from mjx_crossq.launch import cli
from mjx_crossq.launch.jobs import devices, jobs

FOREIGN = ('jax', 'mujoco', 'numpy', 'envs', 'mjx_crossq', 'json')


@pytest.fixture
def beside(tmp_path, monkeypatch):
  """The current folder has modules with the names of ours."""
  for name in FOREIGN:
    (tmp_path / name).mkdir()
    text = f'raise ImportError("this is not {name}")'
    (tmp_path / name / '__init__.py').write_text(text)
  paths = [path for path in sys.path if path]
  monkeypatch.setattr(sys, 'path', paths)
  monkeypatch.chdir(tmp_path)
  return tmp_path


def test_a_child_imports_what_its_parent_does(beside, tmp_path):
  (tmp_path / 'mine').mkdir()
  (tmp_path / 'mine' / 'own.py').write_text('')
  sys.path.append('mine')
  code = 'import json, own; print(json.dumps(own.__file__))'
  done = subprocess.run(
    [sys.executable, '-c', code],
    env=processes.variables(),
    capture_output=True,
    text=True,
    check=True,
  )
  assert json.loads(done.stdout) == str(tmp_path / 'mine' / 'own.py')


def test_the_devices_are_found(beside):
  assert devices.Devices.probe().platform == 'cpu'


def test_jobs_videos_and_opengl_are_started_so(beside, monkeypatch):
  seen = []

  def start(command, **settings):
    seen.append(settings['env'])
    return subprocess.CompletedProcess(command, 1, '', '')

  monkeypatch.delenv('MUJOCO_GL')
  monkeypatch.setattr(cli, 'cache_flags', list)
  monkeypatch.setattr(subprocess, 'Popen', start)
  monkeypatch.setattr(subprocess, 'run', start)
  jobs.start(jobs.Job(from_preset(), beside, 'job'))
  jobs.start(jobs.Job(from_preset(), beside, 'job'), {'A': '1'})
  cli.render(beside)
  opengl.choose()
  expected = processes.variables({})
  assert len(seen) > 3 and seen[1] == {'A': '1', **expected}
  for variables in seen:
    assert expected.items() <= variables.items()
