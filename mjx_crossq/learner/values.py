"""How a critic's outputs describe the return: as a number or a distribution.

    scalar       one output is Q
    categorical  logits over fixed returns (C51, arXiv 1707.06887)
    quantile     the outputs are quantiles of the return (arXiv 1710.10044)

Shapes: outputs are `(critics, rows)` of a scalar critic, else `(critics,
rows, atoms)`; `reward`, `discount` (gamma times the mask) and `cost` (alpha
times log pi, which is subtracted from the soft value) are `(rows,)`.
"""

import abc
import dataclasses

import jax
import jax.numpy as jnp
from typing_extensions import override

from mjx_crossq.config import Config


@dataclasses.dataclass(frozen=True)
class Values(abc.ABC):
  """The three functions that an agent needs of its critic's outputs.

  Attributes:
    config: the configuration.
  """

  config: Config

  @abc.abstractmethod
  def mean(self, outputs: jax.Array) -> jax.Array:
    """Q, `(critics, rows)`."""

  @abc.abstractmethod
  def target(
    self,
    next_outputs: jax.Array,
    reward: jax.Array,
    discount: jax.Array,
    cost: jax.Array,
  ) -> jax.Array:
    """The target of the outputs at (s, a), from the outputs at (s', a')."""

  @abc.abstractmethod
  def loss(self, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Mean loss of each critic, `(critics,)`."""


def of(config: Config) -> Values:
  """The meaning of the outputs that a configuration asks for."""
  kinds = {
    'scalar': Scalar,
    'categorical': Categorical,
    'quantile': Quantile,
  }
  return kinds[config.critic_value](config)


def combine(q: jax.Array, config: Config) -> jax.Array:
  """One value of the ensemble's, over the first axis."""
  if config.critic_reduction == 'mean':
    return jnp.mean(q, axis=0)
  return jnp.min(q, axis=0)


class Scalar(Values):
  """Squared error of Q."""

  @override
  def mean(self, outputs: jax.Array) -> jax.Array:
    """The outputs themselves."""
    return outputs

  @override
  def target(self, next_outputs, reward, discount, cost):
    """`y`, `(rows,)`."""
    return reward + discount * (combine(next_outputs, self.config) - cost)

  @override
  def loss(self, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Half the squared error."""
    return jnp.mean(0.5 * (outputs - target) ** 2, axis=1)


class Categorical(Values):
  """Cross-entropy to the shifted distribution, projected to the atoms.

  The target is the distribution of the critic with the lower mean (row by
  row), or the average one with `critic_reduction='mean'`.
  """

  @property
  def support(self) -> jax.Array:
    """The returns of the atoms, `(atoms,)`."""
    limit = self.config.value_limit
    return jnp.linspace(-limit, limit, self.config.atoms)

  @override
  def mean(self, outputs: jax.Array) -> jax.Array:
    """Expectation over the atoms."""
    return jnp.sum(jax.nn.softmax(outputs) * self.support, axis=-1)

  @override
  def target(self, next_outputs, reward, discount, cost):
    """Probabilities of the atoms, `(rows, atoms)`."""
    c = self.config
    probabilities = jax.nn.softmax(next_outputs)
    if c.critic_reduction == 'min':
      lowest = jnp.argmin(self.mean(next_outputs), axis=0)
      probabilities = jnp.take_along_axis(
        probabilities, lowest[None, :, None], axis=0
      )
    probabilities = jnp.mean(probabilities, axis=0)
    moved = reward[:, None] + discount[:, None] * (self.support - cost[:, None])
    moved = jnp.clip(moved, -c.value_limit, c.value_limit)
    # In units of the atoms' distance; each mass goes to its two neighbours.
    position = (moved + c.value_limit) * (c.atoms - 1) / (2 * c.value_limit)
    atoms = jnp.arange(c.atoms)
    share = jnp.maximum(1 - jnp.abs(position[:, :, None] - atoms), 0)
    return jnp.sum(probabilities[:, :, None] * share, axis=1)

  @override
  def loss(self, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Cross-entropy."""
    log_probabilities = jax.nn.log_softmax(outputs)
    return -jnp.mean(jnp.sum(target * log_probabilities, axis=-1), axis=1)


class Quantile(Values):
  """Quantile Huber loss with threshold 1 between all pairs of quantiles."""

  @override
  def mean(self, outputs: jax.Array) -> jax.Array:
    """Mean of the quantiles."""
    return jnp.mean(outputs, axis=-1)

  @override
  def target(self, next_outputs, reward, discount, cost):
    """Quantiles of the target, `(rows, atoms)`."""
    quantiles = combine(next_outputs, self.config) - cost[:, None]
    return reward[:, None] + discount[:, None] * quantiles

  @override
  def loss(self, outputs: jax.Array, target: jax.Array) -> jax.Array:
    """Summed over the quantiles, averaged over the target's and the rows."""
    atoms = self.config.atoms
    levels = (jnp.arange(atoms) + 0.5) / atoms
    error = target[:, None, :] - outputs[..., None]
    size = jnp.abs(error)
    # As `optax.huber_loss`, whose gradient is rounded in another way.
    huber = jnp.where(size <= 1, 0.5 * error**2, size - 0.5)
    weight = jnp.abs(levels[:, None] - (error < 0))
    return jnp.mean(jnp.sum(weight * huber, axis=-2), axis=(-2, -1))
