"""The published curves are whole, and their IQM is what is known of them."""

import csv

import numpy as np
import pytest

from mjx_crossq import ConfigError, envs
from mjx_crossq.results import baselines, statistics

HARD = tuple(
  t for t in envs.PAPER_TASKS if t.split('-')[0] in ('dog', 'humanoid')
)
# IQM of return / 1000 over the paper's 15 tasks at an env step, as whoever
# collected the file computed it.
KNOWN = (
  ('BRO_utd10', 1_000_000, envs.PAPER_TASKS, 0.836),
  ('BRO_utd2', 1_000_000, envs.PAPER_TASKS, 0.794),
  ('SimbaV2_utd2', 1_000_000, envs.PAPER_TASKS, 0.827),
  ('XQC', 1_000_000, envs.PAPER_TASKS, 0.831),
  ('MR.Q', 1_000_000, envs.PAPER_TASKS, 0.813),
  ('TD-MPC2', 1_000_000, envs.PAPER_TASKS, 0.673),
  ('BRO_utd10', 200_000, envs.PAPER_TASKS, 0.442),
  ('SimbaV2_utd2', 200_000, envs.PAPER_TASKS, 0.458),
  ('XQC', 200_000, envs.PAPER_TASKS, 0.379),
  ('BRO_utd10', 1_000_000, HARD, 0.864),
  ('XQC', 1_000_000, HARD, 0.842),
  ('DR.Q', 200_000, envs.PAPER_TASKS, 0.516),
  ('DR.Q', 500_000, envs.PAPER_TASKS, 0.803),
  ('DR.Q', 1_000_000, envs.PAPER_TASKS, 0.876),
  ('FoG', 200_000, envs.PAPER_TASKS, 0.469),
  ('FoG', 500_000, envs.PAPER_TASKS, 0.773),
  ('FoG', 1_000_000, envs.PAPER_TASKS, 0.844),
  ('FlashSAC', 200_000, HARD, 0.319),
  ('FlashSAC', 500_000, HARD, 0.797),
  ('FlashSAC', 1_000_000, HARD, 0.921),
  ('DR.Q', 1_000_000, HARD, 0.917),
  ('FoG', 1_000_000, HARD, 0.880),
)


@pytest.mark.parametrize(('algorithm', 'step', 'tasks', 'expected'), KNOWN)
def test_iqm_is_the_known_one(algorithm, step, tasks, expected):
  curves = baselines.load(algorithm, tasks)
  assert tuple(curves) == tuple(tasks)
  scores = [c.values[:, c.steps == step][:, 0] / 1000 for c in curves.values()]
  assert len(np.concatenate(scores)) >= 3 * len(tasks)
  assert abs(statistics.iqm(scores) - expected) < 0.001


def test_every_row_is_in_a_curve():
  rows = []
  for path in baselines.PATHS:
    with path.open(newline='') as file:
      rows += csv.DictReader(file)
  assert {row['algorithm'] for row in rows} == set(baselines.algorithms())
  curves = {name: baselines.load(name) for name in baselines.algorithms()}
  for row in rows:
    found = curves[row['algorithm']][row['task']]
    at = found.values[:, found.steps == int(row['env_step'])]
    assert float(row['episode_return']) in at
  for found in curves.values():
    for curve in found.values():
      assert curve.values.shape[1] == len(curve.steps) > 1
      assert curve.steps[-1] in (500_000, 1_000_000)
      assert 2 <= len(curve.values) <= 15
      assert 0 <= curve.values.min() <= curve.values.max() <= 1000


def test_copies_of_a_run_count_once():
  curves = baselines.load('SimbaV2_utd8')
  for task, curve in curves.items():
    assert curve.values.shape == (5, 11), task
    assert len(np.unique(curve.values, axis=0)) == 5, task
  # Both of two copies of the one run and one of the other, seed by seed.
  np.testing.assert_array_equal(
    np.sort(curves['dog-run'].values[:, -1]),
    [501.3, 501.9, 522.8, 579.7, 654.5],
  )
  index = list(curves['dog-run'].values[:, -1]).index(579.7)
  at_500k = curves['dog-run'].steps == 500_000
  assert curves['dog-run'].values[index, at_500k] == 345.8


def test_the_nearest_name_is_named():
  with pytest.raises(ConfigError, match="did you mean 'BRO_utd10'"):
    baselines.load('BRO_utd_10')
  with pytest.raises(ConfigError, match="did you mean 'cheetah-run'"):
    baselines.load('XQC', ['cheetah-rnu'])
  with pytest.raises(ConfigError, match='unknown task of SAC_utd32_resets'):
    baselines.load('SAC_utd32_resets', ['dog-run'])
