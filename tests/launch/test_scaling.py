"""`launch.scaling`: a model of speed, and what it says of a fleet."""

import json

import pytest

from mjx_crossq import ConfigError, envs
from mjx_crossq.launch.jobs import fleet

from . import programs


def rows(seconds):
  return [
    {
      'task': 'cheetah-run',
      'preset': 'crossq_wn',
      'num_seeds': seeds,
      'num_envs': 1,
      'utd': 10,
      'critic_width': 512,
      'updates_per_second': 1 / time,
    }
    for seeds, time in seconds.items()
  ]


def test_the_model_is_read_off_measurements():
  speed = fleet.fit(rows({n: 2e-3 + 5e-4 * n for n in (1, 4, 16)}))
  assert speed.fixed == pytest.approx(2e-3)
  assert speed.per_seed == pytest.approx(5e-4)
  assert speed.half == pytest.approx(4) and speed.error < 1e-6
  # At `half` seeds the rate is half of 1 / per_seed.
  assert 4 / speed.seconds(4) == pytest.approx(0.5 / 5e-4)
  assert speed.measured == (1, 4, 16)


def test_terms_are_never_negative():
  one = fleet.fit(rows({8: 4e-3}))
  assert (one.fixed, one.per_seed) == (0, pytest.approx(5e-4))
  # Seeds that cost more than in proportion, and seeds that are free.
  more = fleet.fit(rows({1: 1e-3, 8: 9e-3}))
  assert more.fixed == 0 and 1e-3 < more.per_seed < 1.2e-3
  assert 0 < more.error < 0.15
  free = fleet.fit(rows({1: 1.1e-3, 8: 1e-3}))
  assert free.per_seed == 0 and 1e-3 < free.fixed < 1.1e-3
  with pytest.raises(ConfigError, match='--sweep=seeds'):
    fleet.fit([])


def test_a_fleet_is_used_as_far_as_there_is_work():
  """Against counting by hand: 15 tasks x 10 seeds, an hour a seed update."""
  speed = fleet.Speed(0.0, 3600.0, (1,), 0.0)  # no gain in a program

  def at(devices, speed=speed, most=10):
    return fleet.plan(speed, 1, 15, 10, most, devices)

  assert at(1) == fleet.Plan(1, 1, 10, 150, 150)
  assert at(15) == fleet.Plan(15, 15, 10, 10, 150)
  assert at(150) == fleet.Plan(150, 150, 1, 1, 150)
  assert at(1000) == fleet.Plan(1000, 150, 1, 1, 150)
  assert at(8).hours == 19  # 150 single seeds on 8
  # Where an update costs the same whatever its seeds are, dividing loses.
  flat = fleet.Speed(3600.0, 0.0, (1,), 0.0)
  assert at(1000, flat) == fleet.Plan(1000, 15, 10, 1, 15)
  assert at(1, flat, most=5) == fleet.Plan(1, 1, 5, 30, 30)


def test_the_program(tmp_path):
  path = tmp_path / 'seeds.json'
  path.write_text(json.dumps({'rows': rows({1: 2e-3, 10: 2e-2})}))
  done = programs.run(
    'scaling',
    f'--benchmark={path}',
    '--tasks=pendulum-swingup',
    '--memory_gib=1',
    '--devices=1',
    '--devices=4',
    '--price=2',
  )
  assert done.returncode == 0, done.stderr
  out = done.stdout
  assert 'a device does 500 seed-updates/s at most' in out
  # (500,000 - 5,000) x 10 updates of 10 seeds, 2 ms each.
  assert '1 tasks x 10 seeds x 4,950,000 updates = 49,500,000' in out
  assert '| 1 | 1 | 10 | 27.5 | ' in out and '| cost |' in out
  # A replay of 500,000 rows of 9 floats, and the agent.
  (fits,) = (
    text.split('|')[2:4] for text in out.splitlines() if 'pendulum' in text
  )
  assert 17 < int(fits[0]) < 30 and int(fits[1]) == pytest.approx(
    0.9 * 1024 / int(fits[0]), rel=0.1
  )
  programs.check_errors('scaling', {(): '--benchmark is needed'})


def test_the_papers_tasks_are_counted():
  assert len(envs.PAPER_TASKS) == 15
