"""Weight normalisation: hidden units are kept on the unit sphere.

The paper's section 4: after every optimiser step the weight vector of each
hidden unit is projected back to norm 1, which keeps the effective learning
rate of a normalised network constant. Here the vector is a unit's incoming
weights and its bias together, `[kernel[:, j]; bias[j]]`.

The *type* of a layer's parameters says whether it is normalised, and not its
name, so that renaming a layer changes nothing. Its name is also a static field,
`kind`: JAX (0.10.2) takes structures of dataclasses with equal fields for equal
whatever their class, and its caches then sometimes confuse them.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Affine:
  """The parameters of a Dense layer whose scale is free.

  Attributes:
    kernel: `(..., inputs, units)`.
    bias: `(..., units)`, or None.
  """

  kernel: jax.Array
  bias: Any
  kind: str = struct.field(pytree_node=False, default='Affine')


@struct.dataclass
class UnitAffine:
  """The parameters of a Dense layer whose units are kept at norm 1.

  Attributes:
    kernel: `(..., inputs, units)`.
    bias: `(..., units)`, or None.
  """

  kernel: jax.Array
  bias: Any
  kind: str = struct.field(pytree_node=False, default='UnitAffine')


@struct.dataclass
class UnitKernel(UnitAffine):
  """The same for the kernel alone: an output layer whose bias is free."""

  kind: str = struct.field(pytree_node=False, default='UnitKernel')


@struct.dataclass
class SoftAffine(Affine):
  """The parameters of a hidden layer with an L2 penalty (`soft_l2`)."""

  kind: str = struct.field(pytree_node=False, default='SoftAffine')


@struct.dataclass
class UnitScale:
  """What a normalisation multiplies by and adds, kept at one joint norm.

  Attributes:
    scale: `(..., features)`.
    bias: `(..., features)`, or None.
  """

  scale: jax.Array
  bias: Any
  kind: str = struct.field(pytree_node=False, default='UnitScale')


def is_layer(node: Any) -> bool:
  """Whether a node of a parameter tree is a Dense layer."""
  return isinstance(node, (Affine, UnitAffine))


def is_normalized(node: Any) -> bool:
  """Whether a node of a parameter tree is a normalised layer."""
  return isinstance(node, UnitAffine)


def unit_norms(layer: Affine | UnitAffine) -> jax.Array:
  """Norm of each unit's weight vector `[kernel column; bias]`, `(..., units)`.

  Without a bias, or with a free one, the norm of the kernel's column. Leading
  axes (ensemble, seeds) are kept.
  """
  squares = jnp.sum(layer.kernel**2, axis=-2)
  if layer.bias is None or isinstance(layer, UnitKernel):
    return jnp.sqrt(squares)
  return jnp.sqrt(squares + layer.bias**2)


def project(params: Any) -> Any:
  """Scales every unit of every normalised layer to norm 1.

  Vectors shorter than 1 become longer. Adam's moments and layers of other types
  stay as they are. The scale and bias of a normalisation, where they are a
  `UnitScale`, become one vector of norm `sqrt(features)`, as a scale of ones
  has it (`Holiday-Robot/FlashSAC`).

  Args:
    params: a parameter tree with `UnitAffine` and `UnitScale` nodes.

  Returns:
    The tree with these nodes projected.
  """

  def project_node(node):
    if isinstance(node, UnitScale):
      parts = jax.tree.leaves(node)
      squares = sum(jnp.sum(x**2, axis=-1, keepdims=True) for x in parts)
      factor = jax.lax.rsqrt((squares + 1e-8) / node.scale.shape[-1])
      return jax.tree.map(lambda x: x * factor, node)
    if not is_normalized(node):
      return node
    inverse = 1.0 / jnp.maximum(unit_norms(node), 1e-12)
    kernel = node.kernel * inverse[..., None, :]
    if node.bias is None or isinstance(node, UnitKernel):
      return type(node)(kernel=kernel, bias=node.bias)
    return UnitAffine(kernel=kernel, bias=node.bias * inverse)

  return jax.tree.map(project_node, params, is_leaf=_is_typed)


def _is_typed(node: Any) -> bool:
  return is_layer(node) or isinstance(node, UnitScale)


def decay_mask(params: Any) -> Any:
  """True where weight decay applies: neither on what is projected nor soft."""
  return jax.tree.map(
    lambda node: not isinstance(node, (UnitAffine, SoftAffine, UnitScale)),
    params,
    is_leaf=_is_typed,
  )


def soft_mask(params: Any) -> Any:
  """True on the layers whose norm is penalised in place of projected."""
  return jax.tree.map(
    lambda node: isinstance(node, SoftAffine), params, is_leaf=is_layer
  )
