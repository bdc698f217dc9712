"""Measurements of the weights, gradients and activations of a network.

Each function is of ONE network of one seed; `over_critics` gives the mean over
an ensemble. Sources: arXiv 2506.03758 (weight norms), Lyle et al. 2024
(effective learning rate), Sokar et al. 2023, arXiv 2302.12902 (dormant units),
Kumar et al. 2021, arXiv 2010.14498 (feature rank).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from mjx_crossq.learner.agent import Metrics
from mjx_crossq.learner.networks import INTERMEDIATES
from mjx_crossq.learner.states import Network
from mjx_crossq.learner.weight_norm import is_layer

DORMANT_THRESHOLD = 0.025  # share of its layer's mean activation
RANK_SHARE = 0.99  # of the singular values' sum


def over_critics(function: Callable[..., Any], *trees: Any) -> Any:
  """Means over the ensemble, the first axis, of a function of one critic."""
  found = jax.vmap(function)(*trees)
  return jax.tree.map(lambda x: jnp.mean(x, axis=0), found)


def kernels(params: Any) -> dict[str, jax.Array]:
  """The kernels of a network's Dense layers, by the layer's name.

  Args:
    params: of an actor or a critic, or their gradient.
  """
  nodes = jax.tree_util.tree_leaves_with_path(params, is_leaf=is_layer)
  names = jax.tree_util.keystr
  return {
    # The path is module / layer / weights.
    '/'.join(names(path, simple=True, separator='/').split('/')[1:-1]): (
      node.kernel
    )
    for path, node in nodes
    if is_layer(node)
  }


def network_norms(params: Any, grads: Any) -> Metrics:
  """Norms of one network's weights and gradients.

  Args:
    params: its parameters.
    grads: the loss's gradient, the same tree.

  Returns:
    `weight_norm`, the sum of the kernels' Euclidean norms, and each layer's;
    `effective_lr`, the mean over all tensors of `|gradient| / |tensor|`
    weighted by their sizes, and each kernel's; `grad_norm`, the norm of all
    gradients as one vector. A tensor that is 0, as biases are at the start,
    has no effective learning rate and is left out of the mean.
  """
  norm = jnp.linalg.norm
  weights = {layer: norm(w) for layer, w in kernels(params).items()}
  rates = {
    layer: norm(g) / weights[layer] for layer, g in kernels(grads).items()
  }
  tensors = jax.tree.leaves(params)
  norms = jnp.stack([norm(x.ravel()) for x in tensors])
  of_grads = jnp.stack([norm(g.ravel()) for g in jax.tree.leaves(grads)])
  sizes = jnp.array([x.size for x in tensors], jnp.float32)
  sizes = jnp.where(norms > 0, sizes, 0.0)
  rate = of_grads / jnp.where(norms > 0, norms, 1.0)
  return {
    'weight_norm': jnp.sum(jnp.stack(list(weights.values()))),
    **{f'weight_norm/{layer}': x for layer, x in weights.items()},
    'effective_lr': jnp.average(rate, weights=sizes),
    **{f'effective_lr/{layer}': x for layer, x in rates.items()},
    'grad_norm': norm(of_grads),
  }


def hidden(
  net: nn.Module, network: Network, *args: jax.Array
) -> tuple[tuple[jax.Array, ...], jax.Array]:
  """Activations of the hidden layers and input of the heads, in eval mode.

  Args:
    net: the actor or the critic.
    network: its parameters and running statistics.
    *args: its inputs, `(rows, ...)` each.

  Returns:
    After each ReLU, `(rows, units)` a layer; and the features,
    `(rows, units)`. Those of the critic have the ensemble in front.
  """
  _, found = net.apply(
    {'params': network.params, 'batch_stats': network.batch_stats},
    *args,
    train=False,
    mutable=[INTERMEDIATES],
  )
  (sown,) = found[INTERMEDIATES].values()
  return sown['activations'], sown['features'][0]


def dormant_share(activations: Sequence[jax.Array]) -> jax.Array:
  """Share of the hidden units whose score is at most `DORMANT_THRESHOLD`.

  A unit's score is its mean absolute activation, divided by the mean of that
  over its layer (Sokar et al. 2023, eq. 1).

  Args:
    activations: `(rows, units)` of each layer.

  Returns:
    The share, `()`; NaN where an activation is not finite.
  """
  dormant, units = jnp.float32(0), 0
  for layer in activations:
    level = jnp.mean(jnp.abs(layer), axis=0)
    mean = jnp.mean(level)
    below = jnp.sum(level <= DORMANT_THRESHOLD * mean)
    dormant += jnp.where(jnp.isfinite(mean), below, jnp.nan)
    units += level.size
  return dormant / units


def feature_rank(features: np.ndarray) -> np.ndarray:
  """Singular values that hold `RANK_SHARE` of the sum of all, on the host.

  `srank` of Kumar et al. 2021 with delta .01. At most the number of rows.

  Args:
    features: `(..., rows, units)`.

  Returns:
    The ranks, `(...)`, 0 if all are 0; NaN where a feature is not finite.
  """
  # The eigenvalues of the Gram matrix would be cheaper, but in float32 those
  # below 1e-7 of the largest are lost, and the sum needs their roots.
  finite = np.asarray(np.isfinite(features).all((-2, -1)))
  values = np.linalg.svd(
    np.where(finite[..., None, None], features, 0), compute_uv=False
  )
  total = np.cumsum(values, axis=-1)
  below = np.sum(total < RANK_SHARE * total[..., -1:], axis=-1)
  rank = np.where(total[..., -1] > 0, below + 1.0, 0.0)
  return np.where(finite, rank, np.nan)
