"""The updates of all variants in float64 NumPy, derived by complex steps.

A second independent statement beside `reference.py`: the losses alone, and
their gradients as `imag(loss(x + ih)) / h`, which is exact to rounding for
analytic functions. Comparisons (ReLU, clips, minima) look at the real part.
Networks are the implementation's parameters as nested dicts of arrays, by its
names: `{'Dense_0': {'kernel', 'bias'}, 'BatchNorm_0': {...}, 'q': {...}}`.
"""

import numpy as np

from tests.learner.reference import adam, tree_map

STEP = 1e-30


def gradients(loss, params):
  """Gradients of `loss(params)` with respect to every number."""
  params = tree_map(lambda x: np.array(x, complex), params)

  def of_leaf(leaf):
    grads = np.zeros(leaf.shape)
    for index in np.ndindex(leaf.shape):
      leaf[index] += 1j * STEP
      grads[index] = np.imag(loss(params)) / STEP
      leaf[index] = leaf[index].real
    return grads

  return tree_map(of_leaf, params)


# Networks.


def relu(x):
  return np.where(x.real > 0, x, 0)


class Pass:
  """One forward pass of an MLP."""

  def __init__(self, params, stats, config, train):
    self.params, self.stats, self.config = params, stats, config
    self.train, self.moved = train, {}
    self.dense_count = self.norm_count = 0

  def dense(self, x, name=None):
    if name is None:
      name = f'Dense_{self.dense_count}'
      self.dense_count += 1
    layer = self.params[name]
    x = x @ layer['kernel']
    return x if layer.get('bias') is None else x + layer['bias']

  def norm(self, x):
    kind = {'batch': 'BatchNorm', 'layer': 'LayerNorm', 'none': None}
    kind = kind[self.config.normalization]
    if kind is None:
      return x
    name = f'{kind}_{self.norm_count}'
    self.norm_count += 1
    if kind == 'LayerNorm':
      mean = x.mean(1, keepdims=True)
      var, eps = ((x - mean) ** 2).mean(1, keepdims=True), 1e-6
    else:
      mean, var, eps = self.batch_statistics(x, name)
    p = self.params[name]
    return (x - mean) / np.sqrt(var + eps) * p['scale'] + p['bias']

  def batch_statistics(self, x, name):
    c, old = self.config, self.stats[name]
    if not self.train:
      return old['mean'], old['var'], c.bn_eps
    mean = x.mean(0)
    var = ((x - mean) ** 2).mean(0)
    m = c.bn_momentum
    self.moved[name] = {
      'mean': m * old['mean'] + (1 - m) * mean.real,
      'var': m * old['var'] + (1 - m) * var.real,
    }
    return mean, var, c.bn_eps

  def residual(self, x, layers):
    x = relu(self.norm(self.dense(x)))
    for _ in range(layers):
      inner = relu(self.norm(self.dense(x)))
      x = x + self.norm(self.dense(inner))
    return x

  def inverted(self, x, layers):
    x = self.dense(self.norm(x))
    for _ in range(layers):
      wide = relu(self.norm(self.dense(x)))
      x = x + relu(self.norm(self.dense(wide)))
    size = np.sqrt((x**2).mean(1, keepdims=True) + 1e-6)
    return x / size * self.params['RMSNorm_0']['scale']

  def features(self, x, layers):
    if self.config.block in ('residual', 'inverted'):
      return getattr(self, self.config.block)(x, layers)
    if self.config.normalization != 'layer':
      x = self.norm(x)
    for _ in range(layers):
      if self.config.block == 'norm_relu':
        x = relu(self.norm(self.dense(x)))
      else:
        x = self.norm(relu(self.dense(x)))
    return x


def critic_outputs(params, stats, obs, action, c, train):
  """Outputs of one critic, `(rows, atoms)`, and its moved statistics."""
  run = Pass(params, stats, c, train)
  x = run.features(np.concatenate([obs, action], 1), c.critic_layers)
  return run.dense(x, 'q'), run.moved


def policy(params, stats, obs, noise, c, train):
  """Action, log density and moved statistics."""
  mean, log_std, moved = gaussian(params, stats, obs, c, train)
  u = mean + np.exp(log_std) * noise
  action = np.tanh(u)
  log_normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
  size = np.where(u.real < 0, -u, u)  # log(1 - tanh(u)^2) is even
  log_slope = 2 * (np.log(2) - size - np.log1p(np.exp(-2 * size)))
  log_prob = (log_normal - log_slope).sum(1)
  return action, log_prob, moved


def gaussian(params, stats, obs, c, train):
  """Mean and log std before tanh, and moved statistics."""
  run = Pass(params, stats, c, train)
  x = run.features(obs, c.actor_layers)
  mean, raw = run.dense(x, 'mean'), run.dense(x, 'log_std')
  low, high = c.log_std_min, c.log_std_max
  if c.log_std_bound == 'tanh':
    log_std = (low + high) / 2 + (high - low) / 2 * np.tanh(raw)
  else:
    log_std = np.where(raw.real < low, low, raw)
    log_std = np.where(raw.real > high, high, log_std)
  return mean, log_std, run.moved


def smallest(values):
  """Along the first axis, by the real part."""
  index = np.argmin(np.real(values), 0)
  return np.take_along_axis(np.stack(values), index[None], 0)[0]


# The meaning of a critic's outputs.


def log_softmax(x):
  x = x - x.real.max(1, keepdims=True)
  return x - np.log(np.exp(x).sum(1, keepdims=True))


def expectation(out, c):
  """Q, `(rows,)`, of a critic's outputs."""
  if c.critic_value == 'scalar':
    return out[:, 0]
  if c.critic_value == 'quantile':
    return out.mean(1)
  support = np.linspace(-c.value_limit, c.value_limit, c.atoms)
  return np.exp(log_softmax(out)) @ support


def ensemble(values, c):
  if c.critic_reduction == 'mean':
    return np.mean(values, 0)
  return smallest(values)


def spread(reward, discount, cost, probabilities, c):
  """The categorical target of one row, mass by mass."""
  limit = c.value_limit
  support = np.linspace(-limit, limit, c.atoms)
  width = support[1] - support[0]
  result = np.zeros(c.atoms)
  for z, p in zip(support, probabilities, strict=True):
    place = np.clip(reward + discount * (z - cost), -limit, limit) + limit
    below = min(int(np.floor(place / width)), c.atoms - 2)
    upper = place / width - below
    result[below] += p * (1 - upper)
    result[below + 1] += p * upper
  return result


def one_loss(out, y, c):
  """Loss of one critic's outputs against the target."""
  if c.critic_value == 'scalar':
    return np.mean((out[:, 0] - y) ** 2) / 2
  if c.critic_value == 'categorical':
    return -np.mean((y * log_softmax(out)).sum(1))
  loss = 0.0
  for i in range(c.atoms):
    level = (2 * i + 1) / (2 * c.atoms)
    error = y - out[:, i : i + 1]
    sign = np.where(error.real < 0, -1, 1)
    huber = np.where(sign * error.real <= 1, error**2 / 2, sign * error - 0.5)
    loss = loss + np.mean(np.where(sign < 0, 1 - level, level) * huber)
  return loss


# The update.


def next_outputs(agent, params, i, batch, next_action, c):
  """What critic i with `params` says of (s', a')."""
  half, stats = len(next_action), agent['critic_stats'][i]
  obs, action = batch['next_obs'], next_action
  if c.joint_pass:
    obs = np.concatenate([batch['obs'], obs])
    action = np.concatenate([batch['action'], action])
  out, _ = critic_outputs(params, stats, obs, action, c, True)
  return out[-half:]


def target(agent, batch, next_action, next_log_prob, c):
  nets = agent['targets'] if c.target_network else agent['critics']
  outputs = [
    next_outputs(agent, params, i, batch, next_action, c)
    for i, params in enumerate(nets)
  ]
  cost = np.exp(agent['log_alpha']) * next_log_prob
  reward, discount = batch['reward'], c.gamma * batch['mask']
  if c.critic_value == 'categorical':
    means = [expectation(out, c) for out in outputs]
    rows = []
    for row, index in enumerate(np.argmin(means, 0)):
      p = np.exp(log_softmax(outputs[index]))[row]
      rows.append(spread(reward[row], discount[row], cost[row], p, c))
    return np.array(rows)
  if c.critic_value == 'quantile':
    reward, discount, cost = reward[:, None], discount[:, None], cost[:, None]
  else:
    outputs = [out[:, 0] for out in outputs]
  return reward + discount * (ensemble(outputs, c) - cost)


def critic_loss(params, stats, batch, next_action, y, c):
  """Loss of one critic, and its moved statistics."""
  obs, action, size = batch['obs'], batch['action'], len(next_action)
  if c.joint_pass:
    obs = np.concatenate([obs, batch['next_obs']])
    action = np.concatenate([action, next_action])
  out, moved = critic_outputs(params, stats, obs, action, c, True)
  return one_loss(out[:size], y, c), moved


def actor_loss(params, agent, batch, noise, c):
  """Loss, log density and moved statistics."""
  obs, size = batch['obs'], len(noise)
  if c.actor_joint_pass:  # the second half's actions are not used
    obs = np.concatenate([obs, batch['next_obs']])
    noise = np.concatenate([noise, 0 * noise])
  action, log_prob, moved = policy(
    params, agent['actor_stats'], obs, noise, c, True
  )
  action, log_prob = action[:size], log_prob[:size]
  values = [
    expectation(
      critic_outputs(net, stats, batch['obs'], action, c, False)[0], c
    )
    for net, stats in zip(agent['critics'], agent['critic_stats'], strict=True)
  ]
  alpha = np.exp(agent['log_alpha'])
  return np.mean(alpha * log_prob - ensemble(values, c)), log_prob, moved


def is_hidden(name):
  return name.startswith('Dense_')


def falling(rate, state, delay, c):
  """The learning rate of an optimiser's next step."""
  if not c.lr_decay_steps:
    return rate
  decisions = -(-c.lr_decay_steps // c.action_repeat)
  last = (decisions - c.warmup) * c.utd
  last = last if c.lr_own_updates else -(-last // delay)
  done = min(state['count'] / last, 1)
  if c.lr_schedule == 'cosine':
    done = (1 - np.cos(np.pi * done)) / 2
  return rate * (1 - done + done * c.lr_final)


def descend(params, grads, state, rate, c):
  """AdamW with the penalty of hidden layers, then the projection."""
  decay = tree_map(lambda _: c.weight_decay, params)
  for name in filter(is_hidden, params):
    if c.soft_l2:
      grads[name] = tree_map(
        lambda g, w: g + c.soft_l2 * w, grads[name], params[name]
      )
    if c.soft_l2 or c.weight_norm:
      decay[name] = tree_map(lambda _: 0.0, params[name])
  params, state = adam(
    params, grads, state, rate, (c.adam_b1, c.adam_b2), decay
  )
  if c.weight_norm:
    params = {name: projected(name, x, c) for name, x in params.items()}
  return params, state


def projected(name, layer, c):
  if is_hidden(name):
    return unit(layer)
  if c.weight_norm_scales and 'scale' in layer:
    whole = np.concatenate([layer['scale'], layer.get('bias', [])])
    factor = np.sqrt(len(layer['scale'])) / np.linalg.norm(whole)
    return tree_map(lambda x: x * factor, layer)
  if c.weight_norm_outputs and 'kernel' in layer:
    kernel = layer['kernel']
    return {**layer, 'kernel': kernel / np.linalg.norm(kernel, axis=0)}
  return layer


def unit(layer):
  bias = layer['bias']
  if bias is None:
    kernel = layer['kernel']
    return {'kernel': kernel / np.linalg.norm(kernel, axis=0), 'bias': None}
  norm = np.sqrt((layer['kernel'] ** 2).sum(0) + bias**2)
  return {'kernel': layer['kernel'] / norm, 'bias': bias / norm}


def start(agent):
  """Adds fresh optimiser states."""

  def fresh(params):
    zeros = tree_map(np.zeros_like, params)
    return {'count': 0, 'mean': zeros, 'square': zeros}

  opts = {'actor': fresh(agent['actor']), 'alpha': fresh(np.float64(0))}
  if agent['explorer']:
    opts['explorer'] = fresh(agent['explorer'])
    opts['raw'] = fresh(agent['raw'])
  opts['critics'] = [fresh(params) for params in agent['critics']]
  return {**agent, 'opts': opts}


def update(
  agent, batch, noise_next, noise_actor, noise_explorer, c, with_actor
):
  """One update of `agent`, which is a dict.

  Args:
    agent: 'actor', 'actor_stats', 'critics', 'critic_stats', 'targets',
      'log_alpha', 'explorer', 'raw', and 'opts' as `start` adds it.
    batch: 'obs', 'action', 'reward', 'mask', 'next_obs'.
    noise_next: normals of a', (B, actions).
    noise_actor: normals of a, (B, actions).
    noise_explorer: normals of the optimistic actor's a, (B, actions).
    c: the configuration.
    with_actor: whether the actor is due.

  Returns:
    The agent and a dict of losses.
  """
  agent = {**agent, 'opts': dict(agent['opts'])}
  next_action, next_log_prob, _ = policy(
    agent['actor'],
    agent['actor_stats'],
    batch['next_obs'],
    noise_next,
    c,
    False,
  )
  y = target(agent, batch, next_action, next_log_prob, c)
  critics, opts, moved, info = [], [], [], {'critic_loss': 0.0}
  for params, stats, opt in zip(
    agent['critics'],
    agent['critic_stats'],
    agent['opts']['critics'],
    strict=True,
  ):
    args = (stats, batch, next_action, y, c)
    loss, new_stats = critic_loss(params, *args)
    info['critic_loss'] += loss
    grads = gradients(lambda p, args=args: critic_loss(p, *args)[0], params)
    rate = falling(c.critic_lr, opt, 1, c)
    params, opt = descend(params, grads, opt, rate, c)
    critics.append(params)
    opts.append(opt)
    moved.append(new_stats)
  agent |= {'critics': critics, 'critic_stats': moved}
  agent['opts']['critics'] = opts
  if c.target_network:
    agent['targets'] = tree_map(
      lambda old, new: old + c.tau * (new - old), agent['targets'], critics
    )
  if with_actor:
    agent, info['actor_loss'] = update_actor(
      agent, batch, noise_actor, noise_explorer, c
    )
  return agent, info


def update_actor(agent, batch, noise, noise_explorer, c):
  """Actor and temperature; also returns the loss."""
  args = (agent, batch, noise, c)
  loss, log_prob, moved = actor_loss(agent['actor'], *args)
  grads = gradients(lambda p: actor_loss(p, *args)[0], agent['actor'])
  opts = agent['opts']
  rate = falling(c.actor_lr, opts['actor'], c.policy_delay, c)
  actor, opts['actor'] = descend(agent['actor'], grads, opts['actor'], rate, c)
  entropy = -np.mean(log_prob)
  slope = entropy - c.target_entropy * noise.shape[1]
  log_alpha, opts['alpha'] = adam(
    agent['log_alpha'],
    np.exp(agent['log_alpha']) * slope,
    opts['alpha'],
    falling(c.alpha_lr, opts['alpha'], c.policy_delay, c),
    (c.alpha_b1, 0.999),
  )
  new = {'actor': actor, 'actor_stats': moved, 'log_alpha': log_alpha}
  agent = {**agent, **new}
  if c.optimism:
    agent = update_explorer(agent, batch, noise_explorer, c)
  return agent, loss


def bounded(raw):
  """Optimism and KL weight: exp of between -10 and 7.5."""
  return np.exp(-1.25 + 8.75 * np.tanh(raw))


def explorer_loss(params, agent, batch, noise, c):
  """BRO's loss of the optimistic actor, and its mean KL."""
  obs, (optimism, weight) = batch['obs'], bounded(agent['raw'])
  mean, log_std, _ = gaussian(agent['actor'], {}, obs, c, False)
  run = Pass(params, {}, c, False)
  x = run.features(np.concatenate([obs, mean], 1), c.actor_layers)
  new_mean = mean + run.dense(x, 'shift')
  std = np.exp(log_std)
  action = np.tanh(new_mean + c.explore_std * std * noise)
  q1, q2 = (
    critic_outputs(net, {}, obs, action, c, False)[0]
    for net in agent['critics']
  )
  gap = np.where((q1 - q2).real < 0, q2 - q1, q1 - q2)
  upper = ((q1 + q2) / 2 + optimism * gap / 2).mean()
  kl = (std**2 + (new_mean - mean) ** 2) / (2 * std**2) - 0.5
  kl = kl.sum(1).mean()
  return weight * kl - upper, kl


def update_explorer(agent, batch, noise, c):
  """The optimistic actor, then its multipliers."""
  opts, params, raw = agent['opts'], agent['explorer'], agent['raw']
  args = (agent, batch, noise, c)
  grads = gradients(lambda p: explorer_loss(p, *args)[0], params)
  kl = explorer_loss(params, *args)[1] / noise.shape[1]
  params, opts['explorer'] = descend(
    params, grads, opts['explorer'], c.actor_lr, c
  )
  slope = bounded(raw) * 8.75 * (1 - np.tanh(raw) ** 2) * (kl - c.kl_target)
  raw, opts['raw'] = adam(
    raw, slope * np.array([1, -1]), opts['raw'], 3e-5, (0.5, 0.999)
  )
  return {**agent, 'explorer': params, 'raw': raw}
