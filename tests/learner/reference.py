"""The update equations in float64 NumPy, with every gradient by hand.

An independent statement of one update of CrossQ with weight normalisation,
CrossQ with Batch Renorm, and SAC, for the implementation to be tested against.
Networks are plain dicts of arrays:

  params  {'input_norm': {'scale', 'bias'} or None,
           'hidden': [{'kernel', 'bias', 'norm': {'scale', 'bias'} or None}],
           'heads': {name: {'kernel', 'bias'}}}
  stats   {'input_norm': {'mean', 'var', 'steps'} or None, 'hidden': [...]}

Nothing is changed in place. Run as a script, it checks its own gradients.
"""

import types

import numpy as np

ADAM_EPS = 1e-8
ALPHA_B2 = 0.999


def as_config(config):
  """Returns `config` with attribute access, whether dict or object."""
  if isinstance(config, dict):
    return types.SimpleNamespace(**config)
  return config


def tree_map(function, tree, *rest):
  """Applies `function` to the leaves of nested dicts and lists; skips None."""
  if tree is None:
    return None
  if isinstance(tree, dict):
    return {
      key: tree_map(function, value, *(other[key] for other in rest))
      for key, value in sorted(tree.items())
    }
  if isinstance(tree, list):
    return [
      tree_map(function, *nodes) for nodes in zip(tree, *rest, strict=True)
    ]
  return function(tree, *rest)


def tree_leaves(tree):
  """Lists the leaves of nested dicts and lists, without None."""
  leaves = []
  tree_map(leaves.append, tree)
  return leaves


# Normalisation.


def renorm_constants(mu, var, stats, config):
  """Returns r and d of Batch Renorm; r = 1 and d = 0 are plain BatchNorm."""
  renorm = config.normalization == 'batch_renorm'
  if not renorm or stats['steps'] < config.renorm_warmup:
    return np.ones_like(mu), np.zeros_like(mu)
  running_std = np.sqrt(stats['var'] + config.bn_eps)
  r = np.sqrt(var + config.bn_eps) / running_std
  d = (mu - stats['mean']) / running_std
  r = np.clip(r, 1 / config.renorm_r_max, config.renorm_r_max)
  return r, np.clip(d, -config.renorm_d_max, config.renorm_d_max)


def norm_forward(x, params, stats, config, train, frozen=None):
  """Normalises the rows of `x`; the identity if `params` is None.

  Args:
    x: inputs, (rows, features).
    params: 'scale' and 'bias'.
    stats: running 'mean', 'var' and 'steps'.
    config: see `update`.
    train: whether to use (and record) batch statistics.
    frozen: in train mode, (r, d) to use in place of the computed ones.

  Returns:
    Output, cache for `norm_backward`, and the moved statistics.
  """
  if params is None:
    return x, None, None
  if train:
    mu, var = x.mean(0), ((x - x.mean(0)) ** 2).mean(0)
    r, d = frozen or renorm_constants(mu, var, stats, config)
    center = mu - d * np.sqrt(var) / r
    spread = var / r**2
    m = config.bn_momentum
    moved = {
      'mean': m * stats['mean'] + (1 - m) * mu,
      'var': m * stats['var'] + (1 - m) * var,
      'steps': stats['steps'] + 1,
    }
    batch = (mu, var, r, d)
  else:
    center, spread, moved, batch = stats['mean'], stats['var'], stats, None
  inverse = 1 / np.sqrt(spread + config.bn_eps)
  normal = (x - center) * inverse
  output = normal * params['scale'] + params['bias']
  return output, (x, normal, inverse, batch), moved


def norm_backward(gradient, params, cache):
  """Returns gradients to 'scale' and 'bias', and to the input."""
  if cache is None:
    return None, gradient
  x, normal, inverse, batch = cache
  grads = {'scale': (gradient * normal).sum(0), 'bias': gradient.sum(0)}
  g = gradient * params['scale']
  g_x = g * inverse
  if batch is None:
    return grads, g_x
  # With c the center and s the spread, normal = (x - c) / sqrt(s + eps),
  # c = mu - d sqrt(var) / r and s = var / r^2; r and d are constants.
  mu, var, r, d = batch
  g_center = -(g * inverse).sum(0)
  g_spread = -0.5 * (g * normal).sum(0) * inverse**2
  # A constant feature has var = 0 whatever the weights (a dead unit): no
  # gradient, where 1 / sqrt(var) times (x - mu) = 0 would be undefined.
  d_root = np.where(var > 0, 0.5 / np.sqrt(np.where(var > 0, var, 1)), 0)
  g_var = g_spread / r**2 - g_center * d / r * d_root
  return grads, g_x + g_center / len(x) + g_var * 2 * (x - mu) / len(x)


# Networks.


def net_forward(params, stats, x, config, train, frozen=None):
  """Runs [Norm ->] (Dense -> ReLU [-> Norm])* -> heads.

  `frozen` holds Batch Renorm's constants as `frozen_constants` returns them;
  the other arguments are those of `norm_forward`.

  Returns:
    Dict of head outputs, cache for `net_backward`, moved statistics.
  """
  depth = len(params['hidden'])
  frozen = frozen or {'input_norm': None, 'hidden': [None] * depth}
  cache, moved = {'hidden': []}, {'hidden': []}
  x, cache['input_norm'], moved['input_norm'] = norm_forward(
    x,
    params['input_norm'],
    stats['input_norm'],
    config,
    train,
    frozen['input_norm'],
  )
  for i, layer in enumerate(params['hidden']):
    inputs, before = x, x @ layer['kernel'] + layer['bias']
    x, norm_cache, layer_stats = norm_forward(
      np.maximum(before, 0),
      layer['norm'],
      stats['hidden'][i],
      config,
      train,
      frozen['hidden'][i],
    )
    cache['hidden'].append((inputs, before > 0, norm_cache))
    moved['hidden'].append(layer_stats)
  cache['features'] = x
  heads = {
    name: x @ head['kernel'] + head['bias']
    for name, head in params['heads'].items()
  }
  return heads, cache, moved


def net_backward(params, cache, head_grads):
  """Returns gradients to `params` and to the input of the network."""
  grads, g = {'hidden': [], 'heads': {}}, 0.0
  for name, g_head in head_grads.items():
    kernel, bias = cache['features'].T @ g_head, g_head.sum(0)
    grads['heads'][name] = {'kernel': kernel, 'bias': bias}
    g = g + g_head @ params['heads'][name]['kernel'].T
  for layer, (inputs, active, norm_cache) in zip(
    params['hidden'][::-1], cache['hidden'][::-1], strict=True
  ):
    norm_grads, g = norm_backward(g, layer['norm'], norm_cache)
    g = g * active
    layer_grads = {'kernel': inputs.T @ g, 'bias': g.sum(0), 'norm': norm_grads}
    grads['hidden'].insert(0, layer_grads)
    g = g @ layer['kernel'].T
  norm = params['input_norm']
  grads['input_norm'], g = norm_backward(g, norm, cache['input_norm'])
  return grads, g


def frozen_constants(cache):
  """Returns (r, d) of each norm of a train-mode pass, None where no norm."""
  norms = [cache['input_norm'], *(norm for _, _, norm in cache['hidden'])]
  constants = [None if norm is None else norm[3][2:] for norm in norms]
  return {'input_norm': constants[0], 'hidden': constants[1:]}


# Policy.


def policy_forward(params, stats, obs, noise, config, train, frozen=None):
  """Samples tanh(u), u = mean + std * noise, and its log-density.

  Returns:
    Action (B, a), log-density (B,), cache, moved statistics.
  """
  heads, cache, moved = net_forward(params, stats, obs, config, train, frozen)
  raw = heads['log_std']
  log_std = np.clip(raw, config.log_std_min, config.log_std_max)
  std = np.exp(log_std)
  u = heads['mean'] + std * noise
  action = np.tanh(u)
  log_normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
  log_slope = 2 * (np.log(2) - u - np.logaddexp(0, -2 * u))
  logp = (log_normal - log_slope).sum(-1)
  inside = (raw >= config.log_std_min) & (raw <= config.log_std_max)
  return action, logp, (cache, action, std * noise, inside), moved


def policy_backward(params, cache, g_action, g_logp):
  """Returns gradients to the actor's parameters."""
  net_cache, action, deviation, inside = cache
  # At fixed noise logp depends on u through -log(1 - tanh(u)^2), whose
  # derivative is 2 tanh(u), and on log_std directly through -log_std.
  g_logp = g_logp[:, None]
  g_u = g_action * (1 - action**2) + g_logp * 2 * action
  g_log_std = (g_u * deviation - g_logp) * inside
  return net_backward(params, net_cache, {'mean': g_u, 'log_std': g_log_std})[0]


# Losses.


def joint_inputs(batch, next_action):
  """Returns the critics' 2B input rows, [s; s'] beside [a; a']."""
  first = np.concatenate([batch['obs'], batch['action']], 1)
  second = np.concatenate([batch['next_obs'], next_action], 1)
  return np.concatenate([first, second])


def critic_target(agent, batch, next_action, next_logp, config):
  """Returns y = r + gamma * mask * (min_i Q_i(s', a') - alpha * logp')."""
  config = as_config(config)
  x = joint_inputs(batch, next_action)
  nets = agent['target_critics'] if config.target_network else agent['critics']
  # The target's pass takes r and d from the online running averages.
  values = [
    net_forward(params, stats, x, config, True)[0]['q'][len(x) // 2 :, 0]
    for params, stats in zip(nets, agent['critic_stats'], strict=True)
  ]
  soft = np.min(values, 0) - np.exp(agent['log_alpha']) * next_logp
  return batch['reward'] + config.gamma * batch['discount_mask'] * soft


def critic_loss_and_grads(
  agent, batch, next_action, target, config, frozen=None
):
  """Computes sum_i mean 0.5 (Q_i(s, a) - y)^2 of the joint pass.

  Args:
    agent: see `update`; its 'critics' and 'critic_stats' are used.
    batch: see `update`.
    next_action: (B, a), constant.
    target: y, (B,), constant.
    config: see `update`.
    frozen: list of Batch Renorm constants to use, one per critic.

  Returns:
    Loss, list of gradients, and a dict with the moved 'stats', the 'frozen'
    constants of the pass and the values 'q' (critics, B).
  """
  config = as_config(config)
  x = joint_inputs(batch, next_action)
  size = len(target)
  loss, grads, aux = 0.0, [], {'stats': [], 'frozen': [], 'q': []}
  for i, params in enumerate(agent['critics']):
    heads, cache, moved = net_forward(
      params, agent['critic_stats'][i], x, config, True, frozen and frozen[i]
    )
    q = heads['q'][:size, 0]
    loss += 0.5 * np.mean((q - target) ** 2)
    g_q = np.zeros((2 * size, 1))
    g_q[:size, 0] = (q - target) / size
    grads.append(net_backward(params, cache, {'q': g_q})[0])
    aux['stats'].append(moved)
    aux['frozen'].append(frozen_constants(cache))
    aux['q'].append(q)
  return loss, grads, aux


def actor_loss_and_grads(agent, obs, noise, config, frozen=None):
  """Computes mean(alpha * logp - min_i Q_i(s, a~)).

  The actor is in train mode, the critics are in eval mode. Arguments are as
  above, `frozen` being the actor's Batch Renorm constants.

  Returns:
    Loss, gradients, and a dict with the moved 'stats', the 'frozen' constants,
    'logp' (B,) and 'q' (critics, B).
  """
  config = as_config(config)
  alpha = np.exp(agent['log_alpha'])
  action, logp, cache, moved = policy_forward(
    agent['actor'], agent['actor_stats'], obs, noise, config, True, frozen
  )
  x = np.concatenate([obs, action], 1)
  passes = [
    net_forward(params, stats, x, config, False)
    for params, stats in zip(
      agent['critics'], agent['critic_stats'], strict=True
    )
  ]
  q = np.stack([heads['q'][:, 0] for heads, _, _ in passes])
  loss = np.mean(alpha * logp - q.min(0))
  g_action = np.zeros_like(action)
  for i, params in enumerate(agent['critics']):
    g_q = -(q.argmin(0) == i).astype(float)[:, None] / len(obs)
    _, g_x = net_backward(params, passes[i][1], {'q': g_q})
    g_action += g_x[:, obs.shape[1] :]
  g_logp = np.full(len(obs), alpha / len(obs))
  grads = policy_backward(agent['actor'], cache, g_action, g_logp)
  constants = frozen_constants(cache[0])
  return loss, grads, dict(stats=moved, frozen=constants, logp=logp, q=q)


def alpha_loss_and_grad(log_alpha, logp, action_size, config):
  """Returns alpha * (mean(-logp) - target entropy), and d/d log alpha."""
  entropy = as_config(config).target_entropy * action_size
  loss = np.exp(log_alpha) * (np.mean(-logp) - entropy)
  return loss, loss  # d alpha / d log alpha = alpha


# Optimisers.


def init_optimisers(agent):
  """Returns `agent` with fresh Adam states."""

  def fresh(params):
    zeros = tree_map(np.zeros_like, params)
    return {'count': 0, 'mean': zeros, 'square': zeros}

  return {
    **agent,
    'actor_opt': fresh(agent['actor']),
    'critic_opt': fresh(agent['critics']),
    'alpha_opt': fresh(np.float64(agent['log_alpha'])),
  }


def adam(params, grads, state, rate, betas, decay=None):
  """One step of AdamW; `decay` is a tree of coefficients, None for none.

  Returns:
    Parameters and state.
  """
  (b1, b2), count = betas, state['count'] + 1
  mean = tree_map(lambda m, g: b1 * m + (1 - b1) * g, state['mean'], grads)
  square = tree_map(
    lambda v, g: b2 * v + (1 - b2) * g**2, state['square'], grads
  )
  decay = tree_map(lambda _: 0.0, params) if decay is None else decay

  def step(p, m, v, wd):
    direction = m / (1 - b1**count)
    direction = direction / (np.sqrt(v / (1 - b2**count)) + ADAM_EPS)
    return p - rate * (direction + wd * p)

  params = tree_map(step, params, mean, square, decay)
  return params, {'count': count, 'mean': mean, 'square': square}


def decay_coefficients(params, config):
  """Returns weight decay per leaf: none on what is weight-normalised."""
  decay = tree_map(lambda _: config.weight_decay, params)
  if config.weight_norm:
    for layer in decay['hidden']:
      layer['kernel'] = layer['bias'] = 0.0
  return decay


def project(params, config):
  """Scales each hidden unit's [kernel column; bias] to norm 1."""
  if not config.weight_norm:
    return params
  hidden = []
  for layer in params['hidden']:
    norm = np.sqrt((layer['kernel'] ** 2).sum(0) + layer['bias'] ** 2)
    kernel, bias = layer['kernel'] / norm, layer['bias'] / norm
    hidden.append({**layer, 'kernel': kernel, 'bias': bias})
  return {**params, 'hidden': hidden}


# The update.


def update(agent, batch, noise_next, noise_actor, config, update_index):
  """One update: critics, then actor and temperature when due, then targets.

  Args:
    agent: 'actor', 'actor_stats', 'critics', 'critic_stats', 'target_critics',
      'log_alpha' and the states that `init_optimisers` adds.
    batch: 'obs', 'action', 'reward', 'discount_mask', 'next_obs'.
    noise_next: standard normals of the sample at s', (B, a).
    noise_actor: standard normals of the actor loss' sample at s, (B, a).
    config: dict or object; the hyper-parameters.
    update_index: index of this update, from 0.

  Returns:
    The new agent and a dict of intermediate values.
  """
  config = as_config(config)
  agent = dict(agent)
  policy = (agent['actor'], agent['actor_stats'])
  next_action, next_logp, _, _ = policy_forward(
    *policy, batch['next_obs'], noise_next, config, False
  )
  target = critic_target(agent, batch, next_action, next_logp, config)
  loss, grads, aux = critic_loss_and_grads(
    agent, batch, next_action, target, config
  )
  info = {'critic_loss': loss, 'critic_grads': grads, 'q': np.stack(aux['q'])}
  info |= {'target': target, 'next_action': next_action, 'next_logp': next_logp}
  decay = [decay_coefficients(params, config) for params in agent['critics']]
  betas = (config.adam_b1, config.adam_b2)
  critics, agent['critic_opt'] = adam(
    agent['critics'], grads, agent['critic_opt'], config.critic_lr, betas, decay
  )
  agent['critics'] = [project(params, config) for params in critics]
  agent['critic_stats'] = aux['stats']

  if update_index % config.policy_delay == 0:
    loss, grads, aux = actor_loss_and_grads(
      agent, batch['obs'], noise_actor, config
    )
    info |= {'actor_loss': loss, 'actor_grads': grads, 'logp': aux['logp']}
    decay = decay_coefficients(agent['actor'], config)
    actor, agent['actor_opt'] = adam(
      agent['actor'], grads, agent['actor_opt'], config.actor_lr, betas, decay
    )
    agent['actor'] = project(actor, config)
    agent['actor_stats'] = aux['stats']
    loss, gradient = alpha_loss_and_grad(
      agent['log_alpha'], aux['logp'], noise_actor.shape[1], config
    )
    info |= {'alpha_loss': loss, 'alpha_grad': gradient}
    betas = (config.alpha_b1, ALPHA_B2)
    agent['log_alpha'], agent['alpha_opt'] = adam(
      agent['log_alpha'], gradient, agent['alpha_opt'], config.alpha_lr, betas
    )

  if config.target_network:
    agent['target_critics'] = tree_map(
      lambda old, new: (1 - config.tau) * old + config.tau * new,
      agent['target_critics'],
      agent['critics'],
    )
  return agent, info


if __name__ == '__main__':
  import pytest

  test = __file__.replace('reference.py', 'test_reference.py')
  raise SystemExit(pytest.main(['-q', test]))
