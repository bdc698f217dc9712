"""Hours and cost of runs, from measured speeds."""

import json
import re

import pytest

from mjx_crossq.config import ConfigError, from_preset
from mjx_crossq.launch.jobs import costs, estimate, jobs

from . import programs


def rows(seconds, **changes):
  return [
    {
      'task': 'cheetah-run',
      'preset': 'crossq_wn',
      'num_seeds': seeds,
      'num_envs': 1,
      'utd': 10,
      'critic_width': 512,
      'updates_per_second': 1 / time,
      **changes,
    }
    for seeds, time in seconds.items()
  ]


def test_the_model_is_fitted_to_measurements():
  speed = estimate.fit(rows({n: 2e-3 + 5e-4 * n for n in (1, 4, 16)}))
  assert speed.fixed == pytest.approx(2e-3)
  assert speed.per_seed == pytest.approx(5e-4)
  assert speed.error < 1e-6
  assert speed.seconds(4) == pytest.approx(4e-3)
  assert speed.source == 'cheetah-run at UTD 10, 1, 4, 16 seed(s)'


def test_terms_are_never_negative():
  one = estimate.fit(rows({8: 4e-3}))
  assert (one.fixed, one.per_seed) == (0, pytest.approx(5e-4))
  # Seeds that cost more than in proportion, and seeds that are free.
  more = estimate.fit(rows({1: 1e-3, 8: 9e-3}))
  assert more.fixed == 0 and 1e-3 < more.per_seed < 1.2e-3
  assert 0 < more.error < 0.15
  free = estimate.fit(rows({1: 1.1e-3, 8: 1e-3}))
  assert free.per_seed == 0 and 1e-3 < free.fixed < 1.1e-3


def test_speeds_are_of_what_is_most_alike():
  config = from_preset('crossq_wn', task='cheetah-run', utd=4, num_seeds=10)
  far, near = rows({10: 4e-3}), rows({10: 3e-3}, utd=5)
  other = rows({10: 2e-3}, task='fish-swim', utd=4)
  assert estimate.speed_of(config, far + near + other) == estimate.fit(near)
  assert estimate.speed_of(config, far + other) == estimate.fit(far)
  # All numbers of seeds of the nearest case are used, and no other case.
  several = rows({1: 1e-3, 5: 2e-3}, utd=5)
  found = estimate.speed_of(config, several + far + other)
  assert found == estimate.fit(several)
  for name, value in {
    'preset': 'sac',
    'critic_width': 8,
    'num_envs': 2,
  }.items():
    assert estimate.speed_of(config, rows({10: 1}, **{name: value})) is None
  assert estimate.hours(config, estimate.fit(near), 500_000) == pytest.approx(
    250_000 * 4 * 3e-3 / 3600
  )


def test_hours_of_fewer_updates_than_decisions():
  config = from_preset('crossq_wn', num_envs=128, utd=0.0625, warmup=12_800)
  # 3,907 iterations of 256 env steps, of which 100 do not learn.
  speed = estimate.Speed(0.0, 3600.0)
  assert estimate.hours(config, speed) == 8 * (3_907 - 100)
  assert estimate.hours(config, speed, 256 * 3_000) == 8 * 907
  near, far = rows({1: 1.0}, num_envs=128), rows({1: 2.0}, num_envs=128)
  near[0]['utd'], far[0]['utd'] = 0.25, 0.004
  assert estimate.speed_of(config, near + far) == estimate.fit(near)


def test_devices_are_used_as_far_as_there_is_work():
  """Against counting by hand: 15 tasks x 10 seeds, an hour a seed update."""
  linear = estimate.Speed(0.0, 3600.0)  # seeds in one program gain nothing
  flat = estimate.Speed(3600.0, 0.0)  # seeds in one program are free

  def at(devices, speed=linear, most=10):
    cells = [estimate.Cell(1, 10, most, speed)] * 15
    return estimate.divide(cells, devices)

  assert at(1) == estimate.Division(1, 1, 10, 150, 150)
  assert at(15) == estimate.Division(15, 15, 10, 10, 150)
  assert at(150) == estimate.Division(150, 150, 1, 1, 150)
  assert at(1000) == estimate.Division(1000, 150, 1, 1, 150)
  assert at(8).hours == 19  # 150 single seeds on 8
  # Where an update costs the same whatever its seeds are, dividing loses.
  assert at(1000, flat) == estimate.Division(1000, 15, 10, 1, 15)
  assert at(1, flat, most=5).device_hours == 30
  # A long cell and two short ones on two devices.
  mixed = [estimate.Cell(n, 1, 1, linear) for n in (3, 2, 1)]
  assert estimate.divide(mixed, 2) == estimate.Division(2, 2, 1, 3, 6)


def test_variants_are_rows_that_cost_time():
  one = from_preset('crossq_wn', env_steps=20_000)
  four = one.replace(vary=('gamma=0.9,0.99', 'tau=0.001,0.005'), num_seeds=3)
  speed = estimate.Speed(0.0, 1.0)
  alone = estimate.hours(one, speed)
  assert estimate.hours(four, speed) == pytest.approx(12 * alone)
  cell = estimate.Cell(1, 3, 1, speed, variants=4)
  assert cell.hours(3) == [4 / 3600] * 3


def test_updates_of_all_variants_are_counted(capsys, tmp_path):
  counts = {}
  for vary in ((), ('gamma=0.9,0.99',), ('gamma=0.9,0.99', 'tau=0.1,0.2')):
    config = from_preset(
      'crossq_wn',
      task='tests.reliability.runs:env',
      warmup=100,
      env_steps=1000,
      utd=1,
      vary=vary,
    )
    costs.report([jobs.Job(config, tmp_path, 'a')], [], here=False)
    found = re.search(r'([\d,]+) updates of', capsys.readouterr().out)
    counts[len(config.combinations)] = found and int(found[1].replace(',', ''))
  assert counts == {1: 400, 2: 800, 4: 1600}


def test_memory_of_a_schedule_of_many_env_steps():
  config = from_preset(
    'xqc',
    task='tests.reliability.runs:env',
    num_envs=1024,
    utd=2 / 1024,
    env_steps=10**10,
    lr_decay_steps=10**10,
  )
  (budget,) = costs.budgets_of([config]).values()
  assert budget.replay > 0


@pytest.mark.parametrize('speed', [0, -1, float('nan'), 'fast', None])
def test_files_of_speeds_are_checked(tmp_path, speed):
  path = tmp_path / 'speeds.json'
  found = rows({1: 1.0}, updates_per_second=speed)
  path.write_text(json.dumps({'rows': found}))
  with pytest.raises(ConfigError, match='no speeds of training'):
    estimate.read([str(path)])


def test_the_program_prints_devices_and_cost(tmp_path):
  path = tmp_path / 'seeds.json'
  path.write_text(json.dumps({'rows': rows({1: 2e-3, 10: 2e-2})}))
  done = programs.run(
    'sweep',
    '--grid=task=pendulum-swingup num_seeds=10',
    f'--workdir={tmp_path / "runs"}',
    '--dry_run',
    f'--benchmark={path}',
    '--memory_gib=1',
    '--devices=1',
    '--devices=4',
    '--price=2',
  )
  assert done.returncode == 0, done.stderr
  out = done.stdout
  # (500,000 - 5,000) x 10 updates of 10 seeds, 2 ms each.
  assert '49,500,000' in out and '27.5 hours' in out
  assert '| 1 | 1 | 10 | 27.5 | 28 | 55 |' in out and '| cost |' in out
  # At most 3 seeds on each of 4 devices.
  assert re.search(r'\| 4 \| 4 \| 3 \| 8.[23] \| 28 \| 55 \|', out)
  # A replay of 500,000 rows of 9 floats, and the agent.
  (text,) = (line for line in out.splitlines() if 'fit a device' in line)
  mib, fits = map(int, re.findall(r'(\d+) (?:MiB|seeds)', text))
  assert 17 < mib < 30 and fits == pytest.approx(0.9 * 1024 / mib, rel=0.1)
  assert not (tmp_path / 'runs').exists()


def test_memory_of_cells_is_shared_by_those_alike():
  few = [
    from_preset(
      'crossq_wn', task='tests.reliability.runs:env', utd=u, critic_width=w
    )
    for u in (1, 2)
    for w in (8, 16)
  ]
  budgets = costs.budgets_of(few)
  assert len({id(b) for b in budgets.values()}) == 2
  by_width = {c.critic_width: b.agent for c, b in budgets.items()}
  assert by_width[8] < by_width[16]
