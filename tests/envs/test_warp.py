"""MuJoCo Warp against stock C, on whatever device there is."""

import copy

import jax
import jax.numpy as jp
import mujoco
import numpy as np
import pytest

from mjx_crossq import ConfigError, Runner, config, envs, train
from mjx_crossq.envs.parity import bounds
from mjx_crossq.envs.parity import measures as parity
from mjx_crossq.envs.warp import physics as warp_physics
from tests.envs import checks

pytest.importorskip('warp')
worlds = pytest.importorskip('mjx_crossq.envs.warp.worlds')

# A target at a site, touch and an elliptic cone; capsules have a test of their
# own below.
_FAST = ('finger-turn_hard',)
_MODELS = {
  task.split('-')[0]: task
  for task in reversed(envs.ALL_TASKS)
  if task not in _FAST
}
_OTHER_MODELS = (
  'cartpole-three_poles',
  'dog-fetch',
  'manipulator-insert_peg',
  'point_mass-hard',
  'quadruped-fetch',
  'swimmer-swimmer15',
)
_TASKS = [
  *_FAST,
  *(
    pytest.param(task, marks=pytest.mark.slow)
    for task in (*_MODELS.values(), *_OTHER_MODELS)
    if task.split('-')[0] in bounds.WARP_BOUNDS
  ),
]


@pytest.mark.parametrize('task', _TASKS)
def test_physics_equal_c(task):
  env = checks.load(task, 'warp')
  assert env.backend == 'warp'
  assert not env.unfaithful
  stock = checks.records(task)
  bound = bounds.of(task, 'warp')
  states = parity.start(env, stock)
  errors = parity.state_errors(states, stock)
  solved = checks.from_solve(env)
  assert errors.obs[:, ~solved].max() < bounds.state(task)
  solve = errors.obs[:, solved].max(axis=1, initial=0)
  assert np.quantile(solve, 0.99) < bound.solve
  assert np.quantile(errors.reward, 0.99) < bounds.STATE
  errors = parity.step_errors(env, states, stock)
  assert np.median(errors.obs) < 1e-6
  assert np.quantile(errors.obs[:, ~solved], 0.99) < bound.step
  errors = parity.physics_errors(env, states, stock)
  for name in ('v1', 'v25'):
    median, high = getattr(bound, name)
    assert np.median(errors[name]) < median, name
    assert np.quantile(errors[name], 0.99) < high, name


@pytest.mark.parametrize('task', ['dog-run', 'humanoid_CMU-run'])
def test_large_models_are_taken(task):
  """Warp refuses dense matrices of more than 60 degrees of freedom."""
  env = checks.load(task, 'warp')
  assert env.mj_model.nv > 60
  model, data = worlds.worlds(env.mj_model, 2, ())
  assert model.nv == env.mj_model.nv
  assert data.nworld == 2


def test_steps_from_a_loaded_state_are_the_same():
  env = checks.load('cartpole-swingup', 'warp')
  step, action = jax.jit(env.step), jp.ones(1)
  state = step(jax.jit(env.reset)(jax.random.key(0)), action)
  loaded = env.load_state(jax.tree.map(np.asarray, env.save_state(state)))
  for _ in range(20):
    state, loaded = step(state, action), step(loaded, action)
    for one, two in zip(*map(jax.tree.leaves, (state, loaded)), strict=True):
      np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize(
  ('rows', 'iterations', 'counted'),
  [(1, 100, 'contacts_dropped'), (99, 1, 'solver_capped')],
)
def test_what_is_left_out_is_counted(monkeypatch, rows, iterations, counted):
  """Contacts without rows of constraints, and solves that end at their cap."""
  env = checks.load('finger-turn_hard', 'warp')
  keys = jax.random.split(jax.random.key(0), 8)
  # Towards the spinner.
  actions = jp.tile(jp.array([1.0, -1.0]), (8, 1))
  step = jax.jit(jax.vmap(env.step))
  state = step(jax.jit(jax.vmap(env.reset))(keys), actions)
  make_data, found = worlds.mjw.make_data, []
  limited, mj_model = copy.copy(env), copy.copy(env.mj_model)
  mj_model.opt.iterations = iterations
  limited.physics = warp_physics.WarpPhysics(mj_model, env.model)
  monkeypatch.setattr(
    worlds.mjw,
    'make_data',
    lambda *args, **sizes: make_data(*args, **sizes | {'njmax': rows}),
  )
  limited_step, watch = jax.jit(jax.vmap(limited.step)), jax.vmap(env.watch)
  first = state
  for _ in range(4):
    counts = watch(limited_step(state, actions))
    assert [name for name, x in counts.items() if np.any(x)] in ([], [counted])
    found.append(counts[counted])
    state = step(state, actions)
    counts = watch(state)
    assert counts.keys() == set(env.watched)
    assert not any(np.any(x) for x in counts.values()), 'with room'
  # Each step counts anew.
  assert np.any(np.max(found, axis=0) > found[0])
  again = watch(limited_step(first, actions))[counted]
  np.testing.assert_array_equal(again, found[0])


def test_seeds_and_environments_are_one_batch():
  """Nested `vmap` gives what every environment gives by itself."""
  env = checks.load('cartpole-swingup', 'warp')

  def play(key, action):
    def body(_, state):
      return env.step(state, action)

    return jax.lax.fori_loop(0, 5, body, env.reset(key))

  keys = jax.random.split(jax.random.key(0), (2, 3))
  actions = jax.random.uniform(jax.random.key(1), (2, 1), minval=-1)
  inner = jax.vmap(play, in_axes=(0, None))
  together = jax.jit(jax.vmap(inner))(keys, actions)
  single = jax.jit(play)
  for seed, number in np.ndindex(2, 3):
    alone = single(keys[seed, number], actions[seed])
    for a, b in zip(
      jax.tree.leaves(alone), jax.tree.leaves(together), strict=True
    ):
      # XLA fuses the reset's arithmetic differently.
      np.testing.assert_allclose(a, b[seed, number], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope='module')
def escape():
  return checks.load('quadruped-escape', 'warp')


@pytest.mark.slow
def test_escape_begins_as_stock(escape):
  keys = jax.random.split(jax.random.key(0), 40)
  states = jax.jit(jax.vmap(escape.reset))(keys)
  checks.assert_stocks_height(escape, states.info['terrain'], states.qpos)
  pvalues = parity.initial_pvalues(escape, 300)
  worst = min(pvalues, key=pvalues.__getitem__)
  assert pvalues[worst] > bounds.PVALUE / len(pvalues), worst


@pytest.mark.slow
def test_escape_observes_as_stock(escape):
  assert escape.unfaithful
  stock = checks.records('quadruped-escape')
  errors = parity.state_errors(parity.start(escape, stock), stock)
  solved = checks.from_solve(escape)
  assert errors.obs[:, ~solved].max() < bounds.STATE
  assert errors.reward.max() < bounds.STATE
  # Some rays meet the terrain, others nothing.
  ranges = stock.obs[:, -20:]
  assert (ranges == 1).any()
  assert (ranges < 0.9).any()


def test_step_keeps_structure_and_types():
  env = checks.load('fish-swim', 'warp')
  reset = jax.eval_shape(env.reset, jax.random.key(0))
  action = jax.ShapeDtypeStruct((env.action_size,), jp.float32)
  after = jax.eval_shape(env.step, reset, action)
  assert checks.types(after) == checks.types(reset)


def test_plane_capsule_equals_c():
  """Friction directions follow the capsule however steep it is."""
  mjw = pytest.importorskip('mujoco.mjx.third_party.mujoco_warp')
  checks.load('fish-swim', 'warp')  # Puts ours in the place of theirs.
  angles = np.deg2rad([0, 1, 5, 25, 35, 60, 89])
  bodies = ''.join(
    f'''<body pos="{2 * i} 0 .08" euler="{angle} 0 {i}"><freejoint/>
    <geom type="capsule" size=".1 .2"/></body>'''
    for i, angle in enumerate(angles)
  )
  model = mujoco.MjModel.from_xml_string(
    f"""<mujoco><compiler angle="radian"/><worldbody>
    <geom type="plane" size="9 9 1"/>{bodies}</worldbody></mujoco>"""
  )
  data = mujoco.MjData(model)
  mujoco.mj_forward(model, data)
  warp_model, warp_data = mjw.put_model(model), mjw.make_data(model)
  warp_data.qpos.assign(np.float32(data.qpos[None]))
  mjw.fwd_position(warp_model, warp_data)
  count = int(warp_data.nacon.numpy()[0])
  assert count == data.ncon > len(angles)
  theirs, ours = data.contact, warp_data.contact
  geom, pos, frame = (
    x.numpy()[:count] for x in (ours.geom, ours.pos, ours.frame)
  )
  # Contacts of a capsule are at its two ends.
  order = np.lexsort((pos[:, 2], geom[:, 1]))
  stock_order = np.lexsort((theirs.pos[:, 2], theirs.geom[:, 1]))
  np.testing.assert_array_equal(geom[order], theirs.geom[stock_order])
  np.testing.assert_allclose(pos[order], theirs.pos[stock_order], atol=1e-5)
  np.testing.assert_allclose(
    frame[order].reshape(count, 9), theirs.frame[stock_order], atol=1e-4
  )


@pytest.mark.slow
def test_trains_and_evaluates_across_backends(tmp_path):
  settings = config.from_preset(
    'quickstart',
    task='pendulum-swingup',
    physics='warp',
    env_steps=400,
    warmup=20,
    utd=3,
    batch_size=8,
    critic_layers=1,
    actor_layers=1,
    critic_width=8,
    actor_width=8,
    eval_every=0,
    eval_episodes=1,
    log_every=400,
  )
  env = envs.load('pendulum-swingup', physics='warp')
  result = train(settings, env, workdir=tmp_path)
  assert set(result.returns) == {'warp', 'dm_control'}
  assert np.isfinite(result.returns['warp']).all()


def test_a_backend_that_does_not_fit_is_refused(monkeypatch):
  with pytest.raises(ValueError, match=r"no physics 'magic'"):
    envs.load('pendulum-swingup', physics='magic')
  settings = config.from_preset('quickstart', task='pendulum-swingup')
  env = checks.load('pendulum-swingup', 'warp')
  with pytest.raises(ConfigError, match=r"physics='mjx'"):
    Runner(settings, env)
  # A name that is None in the table of modules cannot be imported.
  monkeypatch.setitem(__import__('sys').modules, 'warp', None)
  with pytest.raises(ValueError, match=r'pip install .*\[warp\]'):
    envs.load('pendulum-swingup', physics='warp')
