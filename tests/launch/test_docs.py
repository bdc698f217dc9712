"""Examples of the documentation, run as they stand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mjx_crossq import envs

DOCS = Path(__file__).resolve().parents[2] / 'docs'


def blocks(page, language='python'):
  text = (DOCS / page).read_text()
  return re.findall(rf'^```{language}\n(.*?)^```', text, re.MULTILINE | re.S)


def test_own_environment(tmp_path, monkeypatch):
  (code,) = blocks('own_task.md')
  (tmp_path / 'point.py').write_text(code)
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.delitem(sys.modules, 'point', raising=False)
  env = envs.load('point:make')
  assert env.episode_length == 200

  @jax.jit
  def run(key):
    state = env.reset(key)
    return state, env.step(state, jnp.ones(1))

  before, after = run(jax.random.key(0))
  assert before.obs.shape == (2,)
  assert after.obs[1] == before.obs[1] + jnp.float32(0.1)
  assert 0 < after.reward <= 1 and after.done == 0


@pytest.mark.parametrize('page', sorted(p.name for p in DOCS.glob('*.md')))
def test_python_blocks_compile_and_programs_exist(page):
  for code in blocks(page):
    compile(code, page, 'exec')
  programs = re.findall(r'-m (launch\.\w+)', (DOCS / page).read_text())
  for program in programs:
    assert (DOCS.parent / f'{program.replace(".", "/")}.py').exists(), program


@pytest.mark.parametrize('page', sorted(p.name for p in DOCS.glob('*.md')))
def test_links_stay_on_the_site(page):
  text = re.sub(
    r'^```.*?^```', '', (DOCS / page).read_text(), flags=re.M | re.S
  )
  for target in re.findall(r'\]\(([^)#]+)', text):
    if '://' not in target:
      assert (DOCS / target).is_file() and '..' not in target, target


def test_pages_are_in_the_navigation():
  config = (DOCS.parent / 'mkdocs.yml').read_text()
  listed = set(re.findall(r'[\w]+\.md', config))
  assert listed == {path.name for path in DOCS.glob('*.md')}


def notebook():
  cells = json.loads((DOCS / 'quickstart.ipynb').read_text())['cells']
  return [
    (cell['metadata'].get('tags', []), ''.join(cell['source']))
    for cell in cells
    if cell['cell_type'] == 'code'
  ]


def test_notebook_has_no_outputs():
  assert json.loads((DOCS / 'quickstart.ipynb').read_text())['nbformat'] == 4
  assert '"outputs": []' in (DOCS / 'quickstart.ipynb').read_text()
  assert '"data"' not in (DOCS / 'quickstart.ipynb').read_text()


@pytest.mark.slow
def test_notebook_runs(tmp_path):
  """Its cells one after the other, with a small budget."""
  shown = 'class Image:\n  def __init__(self, data):\n    print(len(data))\n'
  (tmp_path / 'IPython').mkdir()
  (tmp_path / 'IPython' / '__init__.py').touch()
  (tmp_path / 'IPython' / 'display.py').write_text(shown)
  code = [text for tags, text in notebook() if 'install' not in tags]
  script = '\n\n'.join(code)
  assert 'ENV_STEPS = 60_000' in script
  script = script.replace('ENV_STEPS = 60_000', 'ENV_STEPS = 8_000')
  done = subprocess.run(
    [sys.executable, '-c', script],
    cwd=tmp_path,
    env={**os.environ, 'PYTHONPATH': f'{tmp_path}:{DOCS.parent}'},
    capture_output=True,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, done.stderr
  assert re.search(r'\(100, 5\) \d+', done.stdout)
  assert re.search(r'return \d+\.\d', done.stdout)
