"""The examples of docs/ecosystem.md run as they are printed."""

import re
from pathlib import Path

import jax
import numpy as np
import pytest

_PAGE = Path(__file__).parents[2] / 'docs' / 'ecosystem.md'
_PAGE_PARTS = re.split(r'^## ', _PAGE.read_text(), flags=re.MULTILINE)[1:]
EXAMPLES = {
  part.partition('\n')[0]: re.findall(r'```python\n(.*?)```', part, re.DOTALL)
  for part in _PAGE_PARTS
}


def run(heading, index=0):
  """The names that an example leaves."""
  names = {}
  exec(compile(EXAMPLES[heading][index], f'{_PAGE}: {heading}', 'exec'), names)
  return names


def test_every_part_has_examples():
  assert {heading: len(code) for heading, code in EXAMPLES.items()} == {
    'brax': 1,
    'gymnasium, vectorised': 2,
    'gymnasium, one environment': 1,
    'Stable-Baselines3': 1,
    'dm_env': 1,
    'MuJoCo Playground': 1,
  }


@pytest.mark.slow
def test_brax(monkeypatch):
  monkeypatch.setattr(jax, 'device_put_replicated', None, raising=False)
  names = run('brax')
  metrics = names['metrics']
  losses = [float(v) for k, v in metrics.items() if k.endswith('loss')]
  assert len(losses) >= 3 and np.isfinite(losses).all()
  # It saw our observations: a cosine, a sine and a speed.
  normalizer = names['params'][0]
  assert normalizer.mean.shape == (3,) and np.all(normalizer.std > 0)
  assert np.abs(normalizer.mean[:2]).max() <= 1
  assert np.abs(names['action']).max() <= 1


def test_gymnasium_vectorised():
  names = run('gymnasium, vectorised')
  assert names['obs'].shape == (16, 3)
  names = run('gymnasium, vectorised', 1)
  assert isinstance(names['final'], jax.Array) and names['truncations'].all()
  assert (names['infos']['episode']['l'] == 5).all()


def test_gymnasium_single():
  assert run('gymnasium, one environment')['obs'].shape == (3,)


def test_stable_baselines3():
  pytest.importorskip('stable_baselines3')
  assert run('Stable-Baselines3')['model'].num_timesteps >= 2000


def test_dm_env():
  names = run('dm_env')
  cosine, sine = names['timestep'].observation['orientation']
  np.testing.assert_allclose(
    [np.cos(names['angle'][0]), np.sin(names['angle'][0])],
    [cosine, sine],
    atol=1e-5,
  )


def test_playground():
  pytest.importorskip('mujoco_playground')
  names = run('MuJoCo Playground')
  assert names['state'].obs.shape == (8, 3)
