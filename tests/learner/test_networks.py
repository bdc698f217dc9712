"""What the updates of `test_update` are too short or too mild to show."""

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq import Agent, from_preset
from mjx_crossq.learner import weight_norm
from mjx_crossq.learner.batch_norm import BatchNorm, Renorm


def test_weight_decay_spares_exactly_the_normalised_layers():
  config = from_preset('crossq_wn', critic_width=8, actor_width=8)
  agent = Agent(config, observation_size=3, action_size=2)
  state = agent.init(jax.random.key(0))
  params = jax.tree.map(lambda x: x + 1.0, state.critic.network.params)
  zeros = jax.tree.map(jnp.zeros_like, params)
  optimizer = agent.critic_optimizer
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  nodes = zip(
    jax.tree.leaves(updates, is_leaf=weight_norm.is_normalized),
    jax.tree.leaves(params, is_leaf=weight_norm.is_normalized),
    strict=True,
  )
  spared = 0
  for update, param in nodes:
    if weight_norm.is_normalized(param):
      spared += 1
      assert not np.any(update.kernel) and not np.any(update.bias)
    else:
      expected = -config.critic_lr * config.weight_decay * param
      np.testing.assert_allclose(update, expected, rtol=1e-6)
  assert spared == config.critic_layers


def test_soft_l2_is_the_penalty_of_exactly_the_hidden_layers():
  config = from_preset(
    'crossq_wn', critic_width=8, weight_norm=False, soft_l2=0.5
  )
  agent = Agent(config, observation_size=3, action_size=2)
  params = agent.init(jax.random.key(0)).critic.network.params
  zeros = jax.tree.map(jnp.zeros_like, params)
  decay = weight_norm.decay_mask(params)
  soft = weight_norm.soft_mask(params)
  layers = params['VmapMLP_0']
  for name in layers:
    hidden = name.startswith('Dense')
    assert set(jax.tree.leaves(soft['VmapMLP_0'][name])) == {hidden}
    assert set(jax.tree.leaves(decay['VmapMLP_0'][name])) == {not hidden}
  # Adam sees the penalty's gradient: its first step has the sign alone.
  optimizer = agent.critic_optimizer
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  for name, layer in layers.items():
    if name.startswith('Dense'):
      kernel = layer['weights'].kernel
      np.testing.assert_allclose(
        updates['VmapMLP_0'][name]['weights'].kernel,
        -config.critic_lr * jnp.sign(kernel),
        rtol=1e-3,
      )


def test_projection_lengthens_short_vectors_too():
  layer = weight_norm.UnitAffine(
    kernel=jnp.array([[3.0, 0.01], [0.0, 0.0]]), bias=jnp.array([4.0, 0.0])
  )
  free = weight_norm.Affine(layer.kernel, layer.bias)
  projected = weight_norm.project({'unit': layer, 'free': free})
  np.testing.assert_allclose(
    projected['unit'].kernel, [[0.6, 1.0], [0.0, 0.0]], rtol=1e-6
  )
  np.testing.assert_allclose(projected['unit'].bias, [0.8, 0.0], rtol=1e-6)
  np.testing.assert_array_equal(projected['free'].kernel, free.kernel)
  np.testing.assert_array_equal(projected['free'].bias, free.bias)


def test_scale_and_bias_of_a_norm_are_projected_as_one_vector():
  """Critic by critic, and without a bias too; they do not decay."""
  norm = weight_norm.UnitScale(
    scale=jnp.array([[3.0, 0.0], [0.1, 0.1]]),
    bias=jnp.array([[0.0, 4.0], [0.1, 0.1]]),
  )
  alone = weight_norm.UnitScale(jnp.array([3.0, 4.0]), None)
  params = {'norm': norm, 'alone': alone}
  projected = weight_norm.project(params)
  half, root = 2**-0.5, 2**0.5
  np.testing.assert_allclose(
    projected['norm'].scale, [[0.6 * root, 0], [half, half]], rtol=1e-5
  )
  np.testing.assert_allclose(
    projected['norm'].bias, [[0, 0.8 * root], [half, half]], rtol=1e-5
  )
  np.testing.assert_allclose(
    projected['alone'].scale, [0.6 * root, 0.8 * root], rtol=1e-5
  )
  assert projected['alone'].bias is None
  assert not any(jax.tree.leaves(weight_norm.decay_mask(params)))


def test_batch_renorm_has_a_finite_gradient_for_a_silent_unit():
  norm = BatchNorm(0.99, 1e-3, Renorm(warmup=0, r_max=3, d_max=5))
  silent = np.zeros(16, np.float32)
  x = jnp.stack([jnp.linspace(-1, 1, 16), silent], axis=1)
  variables = norm.init(jax.random.key(0), x, True)
  stats = jax.tree.map(lambda s: s + 1, variables['batch_stats'])

  def loss(x):
    out, _ = norm.apply(
      {'params': variables['params'], 'batch_stats': stats},
      x,
      True,
      mutable=['batch_stats'],
    )
    return jnp.sum(out**2)

  gradient = jax.grad(loss)(x)
  assert np.all(np.isfinite(gradient))
  assert np.any(gradient[:, 0])


def test_structures_of_layers_differ():
  """JAX's caches compare structures, and not the classes in them."""
  kinds = [
    weight_norm.Affine,
    weight_norm.UnitAffine,
    weight_norm.UnitKernel,
    weight_norm.SoftAffine,
    weight_norm.UnitScale,
  ]
  trees = [jax.tree.structure(kind(1, 2)) for kind in kinds]
  for i, one in enumerate(trees):
    assert all(one != other for other in trees[:i])
