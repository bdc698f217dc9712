"""A damaged entry of the compilation cache is made anew."""

import warnings

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from mjx_crossq.launch import cache_repair


@pytest.fixture
def cache(tmp_path):
  """An empty compilation cache."""
  before = jax.config.jax_compilation_cache_dir
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  compilation_cache.reset_cache()
  yield tmp_path
  jax.config.update('jax_compilation_cache_dir', before)
  compilation_cache.reset_cache()


def compile_anew():
  jax.clear_caches()
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    return jax.jit(lambda x: jnp.sin(x) * 3 + 2)(1.0)


@pytest.mark.parametrize('keep', [0, 0.5, 0.99])
def test_it_heals(cache, keep, capsys):
  cache_repair.install()
  expected = compile_anew()
  whole = {p: p.read_bytes() for p in cache.glob('*-cache')}
  assert whole
  for path, content in whole.items():
    path.write_bytes(content[: int(keep * len(content))])
  assert compile_anew() == expected
  shown = capsys.readouterr().err
  assert shown.count('is made anew') == len(whole)
  assert all(str(path) in shown for path in whole)
  assert {p: len(p.read_bytes()) > keep * len(c) for p, c in whole.items()} == (
    dict.fromkeys(whole, True)
  )
  assert compile_anew() == expected
  assert capsys.readouterr().err == ''


def test_what_cannot_be_removed_is_left_to_jax(cache):
  cache_repair.install()
  expected = compile_anew()
  for path in cache.glob('*-cache'):
    path.unlink()
    path.mkdir()
  with warnings.catch_warnings(record=True):
    warnings.simplefilter('always')
    jax.clear_caches()
    assert jax.jit(lambda x: jnp.sin(x) * 3 + 2)(1.0) == expected
