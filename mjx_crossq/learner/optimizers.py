"""The optimisers: Adam, with decay on the layers that are not normalised."""

from typing import Any

import optax

from mjx_crossq.config import Config
from mjx_crossq.learner import weight_norm
from mjx_crossq.learner.hyper import Hyper


def learning_rate(
  config: Config, first: Any, delay: int
) -> optax.ScalarOrSchedule:
  """A learning rate, constant or falling over `lr_decay_steps`.

  Args:
    config: the schedule.
    first: its value at the first update, a float or an array `()`.
    delay: updates of the critic to each of this optimiser's, so that all
      rates reach their last value at the same time. With `lr_own_updates` it
      does not count, as in `danielpalenicek/xqc` and `Holiday-Robot/FlashSAC`,
      so that delayed rates do not fall as far.
  """
  c = config
  if not c.lr_decay_steps:
    return first
  iterations = -(-c.lr_decay_steps // c.steps_per_iteration)
  delay = 1 if c.lr_own_updates else delay
  updates = max(1, -(-c.updates_at(iterations) // delay))
  if c.lr_schedule == 'cosine':
    return optax.cosine_decay_schedule(first, updates, c.lr_final)
  return optax.linear_schedule(first, first * c.lr_final, updates)


def network_optimizer(
  config: Config, hyper: Hyper, first: Any, delay: int
) -> optax.GradientTransformation:
  """AdamW of a network.

  Normalised layers do not decay (`weight_norm.decay_mask`). With `soft_l2` the
  gradient of `soft_l2 / 2 * sum of squares` of the hidden layers is added to
  that of the loss, before Adam.

  Args:
    config: the source of every other setting.
    hyper: its weight decay; a float 0 leaves the decay out of the program.
    first: learning rate of the first update, `hyper.critic_lr` or `actor_lr`.
    delay: updates of the critic to each of this network's.
  """
  c = config
  rate = learning_rate(c, first, delay)
  if not isinstance(hyper.weight_decay, float) or hyper.weight_decay:
    adam = optax.adamw(
      rate,
      b1=c.adam_b1,
      b2=c.adam_b2,
      weight_decay=hyper.weight_decay,
      mask=weight_norm.decay_mask,
    )
  else:
    adam = optax.adam(rate, b1=c.adam_b1, b2=c.adam_b2)
  if not c.soft_l2:
    return adam
  penalty = optax.add_decayed_weights(c.soft_l2, mask=weight_norm.soft_mask)
  return optax.chain(penalty, adam)


def descend(
  optimizer: optax.GradientTransformation,
  grads: Any,
  opt_state: Any,
  params: Any,
) -> tuple[Any, Any]:
  """A step of an optimiser followed by the projection of the weights.

  Args:
    optimizer: the optimiser.
    grads: of the parameters.
    opt_state: its state before.
    params: the parameters before.

  Returns:
    The parameters and the state after.
  """
  updates, opt_state = optimizer.update(grads, opt_state, params)
  return weight_norm.project(optax.apply_updates(params, updates)), opt_state
