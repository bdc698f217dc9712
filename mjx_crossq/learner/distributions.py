"""The tanh-squashed Gaussian policy distribution."""

import jax
import jax.numpy as jnp


def sample_and_log_prob(
  mean: jax.Array, log_std: jax.Array, noise: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Reparameterised sample of `tanh(N(mean, exp(log_std)))`.

  Args:
    mean: mean before squashing, `(..., actions)`.
    log_std: log standard deviation before squashing, `(..., actions)`.
    noise: standard normal draws, `(..., actions)`.

  Returns:
    The action in (-1, 1), `(..., actions)`, and its log density, `(...)`.
    The density's `log(1 - tanh(u)^2)` is written as
    `2 (log 2 - u - softplus(-2 u))`, which is exact where tanh saturates.
  """
  pre_tanh = mean + jnp.exp(log_std) * noise
  log_normal = -0.5 * (noise**2 + jnp.log(2 * jnp.pi)) - log_std
  log_det = 2 * (jnp.log(2.0) - pre_tanh - jax.nn.softplus(-2 * pre_tanh))
  return jnp.tanh(pre_tanh), jnp.sum(log_normal - log_det, axis=-1)


def mode(mean: jax.Array) -> jax.Array:
  """The deterministic action used in evaluation, `tanh(mean)`."""
  return jnp.tanh(mean)
