"""The policy as a list of layers, which `numpy_policy.act` computes."""

from typing import Any

import jax
import numpy as np

from mjx_crossq.config import Config
from mjx_crossq.learner import layers, networks
from mjx_crossq.learner.states import Network

Layer = tuple[str, dict[str, Any]]
"""A kind, and the parameters by name."""


def policy_layers(config: Config, network: Network) -> list[Layer]:
  """The steps of the actor up to the mean, with their numbers.

  Args:
    config: of the run.
    network: the actor, or several of them with leading axes.
  """
  (params,) = network.params.values()
  stats = next(iter(network.batch_stats.values()), {})
  params, stats = jax.device_get((params, stats))

  def values(kind, name):
    p = params.get(name, {})
    if kind in ('dense', 'expand'):
      kernel, bias = p['weights'].kernel, p['weights'].bias
      bias = np.zeros_like(kernel[..., 0, :]) if bias is None else bias
      return {'kernel': kernel, 'bias': bias}
    if 'weights' in p:  # of a normalisation, with `weight_norm_scales`
      p = {'scale': p['weights'].scale, 'bias': p['weights'].bias}
    if kind == 'rms_norm':
      eps = np.float32(layers.RMSNorm().eps)
      return {'scale': p['scale'], 'eps': eps}
    if kind == 'layer_norm':
      return {**p, 'eps': np.float32(layers.LayerNorm().eps)}
    if kind == 'batch_norm':
      mean, var = stats[name]['mean'], stats[name]['var']
      scale = p['scale'] / np.sqrt(var + np.float32(config.bn_eps))
      return {'mean': mean, 'scale': scale, 'bias': p['bias']}
    return {}

  # In the files a batch norm with fixed statistics is called `normalize`.
  in_files = {'batch_norm': 'normalize', 'expand': 'dense'}
  steps = networks.steps(config, config.actor_layers)
  return [
    (in_files.get(kind, kind), values(kind, name))
    for kind, name in (*steps, networks.Step('dense', 'mean'))
  ]
