"""What the tests of several devices measure, in a process that has eight.

python -m tests.devices.programs PROGRAM FOLDER
"""

import json
import os
import re
import sys
from pathlib import Path

os.environ['JAX_PLATFORMS'] = 'cpu'
os.environ['XLA_FLAGS'] += ' --xla_force_host_platform_device_count=8'

import jax
import numpy as np

from mjx_crossq import Runner, envs, from_preset, load_policy
from mjx_crossq.device import budget
from mjx_crossq.host import dumps
from mjx_crossq.host import run as loop
from mjx_crossq.host.checkpoint import Checkpointer
from mjx_crossq.launch.bench import cases
from tests.learner.test_seeds import ITERATIONS, SMALL
from tests.learner.test_update import one
from tests.reliability import runs, test_numbers, test_vary_runs
from tests.rounding import bound
from tests.rounding import distance as error

COLLECTIVES = (
  'all-reduce',
  'all-gather',
  'all-to-all',
  'collective-permute',
  'collective-broadcast',
  'reduce-scatter',
)


def quiet(_):
  pass


def same_bits(a, b):
  try:
    runs.assert_same_bits(a, b)
  except AssertionError:
    return False
  return True


def collectives(text):
  """Operations between devices in a compiled program, with their bytes."""
  found = []
  for line in text.splitlines():
    match = re.search(rf' ({"|".join(COLLECTIVES)})(-start)?\(', line)
    if match:
      result = line[: match.start()].split(' = ', 1)[1]
      sizes = [
        4 * int(np.prod([int(n) for n in dims.split(',') if n]))
        for dims in re.findall(r'\w+\[([\d,]*)\]', result)
      ]
      found.append((match.group(1), max(sizes)))
  return found


def numbers(folder):
  """Five seeds on one device and on four, in real physics."""
  del folder
  config = from_preset('crossq_wn', **SMALL, num_seeds=5, seed=5)
  env = envs.load(config.task)
  played = {}
  for name, devices in (('one', None), ('four', jax.devices()[:4])):
    runner = Runner(config, env, devices)
    state, sums = runner.train_chunk(runner.init(), ITERATIONS)
    stored = runner.placement.store(state)
    played[name] = runner, state, stored, runner.placement.without_copies(sums)
  (one, state, stored, sums), (four, placed, spread, four_sums) = (
    played['one'],
    played['four'],
  )
  text = four.lower_train_chunk().compile().as_text()
  return {
    'updates': config.updates_at(ITERATIONS),
    'bound': bound(one, ITERATIONS),
    'placement': [four.placement.rows, len(four.placement.devices)],
    'errors': {
      'agent': error(spread.agent, stored.agent),
      'replay': error(spread.replay, stored.replay),
      'rollout': error(spread.rollout, stored.rollout),
      'sums': error(four_sums, sums),
    },
    'returns': error(
      four.evaluate(placed.agent.actor.network, 3),
      one.evaluate(state.agent.actor.network, 3),
    ),
    'other_returns': error(
      four.evaluate(placed.agent.actor.network, 4),
      one.evaluate(state.agent.actor.network, 3),
    ),
    'collectives': collectives(text),
    'loops': text.count(' while('),
    'traces': four.traces,
  }


def checkpoints(folder):
  """Five seeds on eight devices, then three, then one; and on one alone."""
  config = runs.config(num_seeds=5, diagnostics_every=runs.WHOLE)
  whole = loop.train(config, runs.env(), workdir=folder / 'whole', report=quiet)
  found = {'placements': [], 'traces': []}
  for steps, count in ((40, 8), (80, 3), (120, 1)):
    result = loop.train(
      config.replace(env_steps=steps),
      runs.env(),
      workdir=folder / 'moved',
      resume=True,
      report=quiet,
      devices=jax.devices()[:count],
    )
    placement = result.runner.placement
    found['placements'].append([placement.rows, len(placement.devices)])
    found['traces'].append(result.runner.traces)
    if count == 3:
      found |= uneven(folder / 'moved', result)
  found['error'] = {
    name: error(getattr(result.state, name), getattr(whole.state, name))
    for name in ('agent', 'rollout', 'replay', 'iteration')
  }
  found['bound'] = bound(whole.runner, config.iterations)
  found['stored'] = {
    name: shapes(folder / name, config) for name in ('whole', 'moved')
  }
  return found


def uneven(workdir, result):
  """What six rows on three devices show of five seeds."""
  runner, state = result.runner, result.state
  compiled = runner.lower_train_chunk().compile()
  rows, width = runner.config.replay_rows, runner.trainer.replay.row_size
  memory = budget.Budget.of(runner.abstract_state(), runner.placement.devices)
  with Checkpointer(
    workdir / 'checkpoints', read_only=True, placement=runner.placement
  ) as checkpointer:
    again = checkpointer.restore(80, runner.abstract_state())
  loaded, policy, step = load_policy(workdir, lambda *a, **k: runs.env())
  case = cases.Case(runner.config, runs.env(), 2, jax.devices()[:3])
  before = runner.iteration(case.state)
  case.run()
  obs = np.ones((5, 3, 2), np.float32)
  acted = runner.act(state.agent.actor.network, obs)
  host_policy = result.policy
  return {
    'restored': same_bits(again, state),
    'replay_sharding': str(again.replay.sharding.spec),
    'policy_rows': {x.shape[0] for x in jax.tree.leaves(host_policy)} == {5},
    'acted': [
      list(acted.shape),
      error(runner.act(host_policy, obs), acted),
      error(loaded.act(policy, obs), acted),
      step,
    ],
    'returns': list(result.returns['mjx'].shape),
    'diagnosed': {len(x) for x in runner.diagnose(state, 80).values()} == {5},
    'collectives': collectives(compiled.as_text()),
    'loops': compiled.as_text().count(' while('),
    'aliased': compiled.memory_analysis().alias_size_in_bytes,
    'replay_of_a_device': 2 * rows * width * 4,
    'budget': memory.replay,
    'benchmarked': [
      runner.iteration(case.state) - before,
      np.isfinite(case.state.replay).all().item(),
      case.memory()['replay'],
    ],
  }


def shapes(workdir, config):
  """Shapes in the last checkpoint of a run."""
  like = Runner(config, runs.env()).abstract_state()
  with Checkpointer(workdir / 'checkpoints', read_only=True) as checkpointer:
    state = checkpointer.restore(runs.WHOLE, like)
  return [list(state.replay.shape), list(state.iteration.shape)]


def faults(folder):
  """Three seeds on two devices; one seed's reward breaks its learner."""
  seed, at, stop = test_numbers.SEED, test_numbers.AT, test_numbers.STOP
  config = test_numbers.config(
    env_steps=2 * stop, log_every=10, eval_every=0, checkpoint_every=0
  )
  devices = jax.devices()[:2]
  env = test_numbers.Breaking(-1.0, True)
  runner = Runner(config, env, devices)
  state, _ = runner.train_chunk(runner.init(), at - 1)
  obs = runner.placement.without_copies(state.rollout.env.obs)
  start = float(obs[seed, 0, 0])
  physics = []
  breaking = Runner(config, test_numbers.Breaking(start, True), devices)
  watch = dumps.FaultReporter(breaking, None, physics.append, debug=True)
  watch(watch.copy(state), state, {'env_faults': np.ones(4)})
  clean, _ = runner.train_chunk(state, stop)

  env, lines = test_numbers.Breaking(start, False), []
  runner = Runner(config, env, devices)
  apart, _ = runner.train_chunk(runner.init(), stop)
  found = {'apart': np.asarray(apart.iteration).tolist(), 'refused': ''}
  try:
    runner.placement.store(apart)
  except ValueError as refusal:
    found['refused'] = str(refusal)
  result = loop.train(
    config, env, workdir=folder / 'run', report=lines.append, devices=devices
  )
  broken = runner.placement.without_copies(result.state.replace(iteration=None))
  clean = runner.placement.without_copies(clean.replace(iteration=None))
  others = np.array([i for i in range(3) if i != seed])

  def intact(state):
    parts = state.agent, state.rollout, state.replay
    return jax.tree.map(lambda x: np.asarray(x)[others], parts)

  (path,) = (folder / 'run' / 'faults').iterdir()
  dump = dumps.load(path)
  index, metrics = dump.replay()
  kept = result.runner.placement.seed(result.state.agent, seed)
  return found | {
    'iteration': result.runner.iteration(result.state),
    'in_step': bool(result.runner.in_step(result.state)),
    'frozen': broken.frozen.tolist(),
    # Their environments are two programs, which may round differently.
    'others': error(intact(broken), intact(clean)),
    'warnings': [line for line in lines if line.startswith('warning')],
    'physics': physics,
    'traces': result.runner.traces,
    'dump': [dump.seed, dump.iteration, index],
    'dump_loss': float(metrics[-1]['critic_loss']),
    'dump_reward': float(np.max(dump.batches.reward[index])),
    'dump_agent': same_bits(dump.agent, kept),
  }


def population(folder):
  """Five settings and PBT on one device and on four, stopped on the way."""
  config = runs.config(
    num_seeds=1,
    vary=('actor_lr=1e-4,3e-4,1e-3,3e-3,1e-2',),
    pbt_every=20,
    critic_lr=3e-3,
  )
  env = test_vary_runs.env()
  one = loop.train(config, env, workdir=folder / 'one', report=quiet)
  for steps, count in ((runs.SAVE, 4), (runs.WHOLE, 3)):
    four = loop.train(
      config.replace(env_steps=steps),
      env,
      workdir=folder / 'four',
      resume=True,
      report=quiet,
      devices=jax.devices()[:count],
    )
  steps = [
    [json.loads(line) for line in (folder / name / 'pbt.jsonl').open()]
    for name in ('one', 'four')
  ]
  stored = four.runner.placement.store(four.state)
  return {
    'bound': bound(one.runner, config.iterations),
    'rows': four.runner.placement.rows,
    'steps': [
      [(step['env_step'], step['source'], step['hyper/actor_lr']) for step in x]
      for x in steps
    ],
    'error': {
      name: error(getattr(stored, name), getattr(one.state, name))
      for name in ('agent', 'replay', 'hyper')
    },
  }


UPDATES = 6  # two of them with the actor's


def data_parallel(folder):
  """One seed on one device and divided over two, four and eight."""
  config = runs.config(num_seeds=1, num_envs=4, matmul_precision='highest')
  trainer = Runner(config, runs.env()).trainer
  agent = trainer.agent.init(jax.random.key(3))
  key = jax.random.key(4)
  keys = iter(jax.random.split(key, 5))
  batches = jax.tree.map(
    lambda x: jax.random.normal(next(keys), (UPDATES, 16, *x.shape[1:])),
    trainer.replay.previous(trainer.replay.init(), np.int32(1)),
  )

  def learned(trainer):
    def update(agent, inputs):
      batch, index = inputs
      agent, metrics = trainer.agent.update(
        agent, *one((trainer.layout.batch(batch), key)), index % 3 == 0
      )
      agent = trainer.layout.agent(agent)
      return agent, (metrics, agent)

    return lambda agent: jax.lax.scan(
      update, agent, (batches, np.arange(UPDATES))
    )

  expected = jax.jit(learned(trainer))(agent)
  found = {'update': {}, 'updates': {}, 'reduced': {}}

  def after(index, result):
    return jax.tree.map(lambda x: x[index], result[1])

  for count in (2, 4, 8):
    devices = jax.devices()[:count]
    divided = Runner(config, runs.env(), devices, data_parallel=True)
    program = jax.jit(learned(divided.trainer)).lower(agent).compile()
    result = program(agent)
    for name, index in (('update', 0), ('updates', UPDATES - 1)):
      found[name][count] = error(after(index, result), after(index, expected))
    kinds = {kind for kind, _ in collectives(program.as_text())}
    found['reduced'][count] = 'all-reduce' in kinds
  return found | divided_runs(folder, config)


def divided_runs(folder, config):
  """A run on one device, one on four, and one that changes over."""
  # Large beside a batch, so that what is done to it is seen.
  config = config.replace(replay_capacity=400_000)
  one = loop.train(config, runs.env(), workdir=folder / 'one', report=quiet)
  four = loop.train(
    config,
    runs.env(),
    workdir=folder / 'four',
    report=quiet,
    devices=jax.devices()[:4],
    data_parallel=True,
  )
  half = config.replace(env_steps=80)
  loop.train(half, runs.env(), workdir=folder / 'moved', report=quiet)
  moved = loop.train(
    config,
    runs.env(),
    workdir=folder / 'moved',
    resume=True,
    report=quiet,
    devices=jax.devices()[:4],
    data_parallel=True,
  )
  back, _, _ = load_policy(folder / 'moved', lambda *a, **k: runs.env())
  with Checkpointer(folder / 'moved' / 'checkpoints', read_only=True) as saved:
    restored = saved.restore(runs.WHOLE, back.abstract_state())
  runner = four.runner
  compiled = runner.lower_train_chunk().compile()
  state = four.state
  env = jax.tree.leaves(state.rollout.env)[0]
  memory = compiled.memory_analysis()
  sizes = [size for _, size in collectives(compiled.as_text())]
  return {
    'run': {
      name: error(
        getattr(runner.placement.store(state), name), getattr(one.state, name)
      )
      for name in ('agent', 'rollout', 'replay', 'iteration')
    },
    'bound': bound(one.runner, config.iterations),
    'returns': error(four.returns, one.returns),
    'moved': error(moved.state.agent, one.state.agent),
    'restored': error(restored, one.state),
    'traces': runner.traces,
    'specs': {
      'replay': str(state.replay.sharding.spec),
      'env': str(env.sharding.spec),
    },
    'largest': max(sizes),
    'replay': one.state.replay.nbytes,
    'aliased': memory.alias_size_in_bytes,
    'temporary': memory.temp_size_in_bytes,
    'replay_of_a_device': state.replay.addressable_shards[0].data.nbytes,
    'budget': budget.Budget.of(
      runner.abstract_state(), runner.placement.devices
    ).replay,
  }


if __name__ == '__main__':
  print(json.dumps(globals()[sys.argv[1]](Path(sys.argv[2]))))
