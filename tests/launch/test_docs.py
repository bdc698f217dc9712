"""Examples of the documentation, run as they stand."""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import envs

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


def test_pages_are_in_the_navigation():
  config = (DOCS.parent / 'mkdocs.yml').read_text()
  listed = set(re.findall(r'[\w]+\.md', config))
  assert listed == {path.name for path in DOCS.glob('*.md')}
