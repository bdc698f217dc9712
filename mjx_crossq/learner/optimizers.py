"""The optimisers: AdamW that knows what weight normalisation leaves free."""

import optax

from mjx_crossq import vary
from mjx_crossq.config import Config
from mjx_crossq.learner import weight_norm


def learning_rate(
  config: Config, first: float, delay: int
) -> optax.ScalarOrSchedule:
  """A learning rate, constant or falling linearly over `lr_decay_steps`.

  Args:
    config: the schedule.
    first: its value at the first update.
    delay: updates of the critic to each of this optimiser's, so that all
      rates reach their last value together. (`danielpalenicek/xqc` counts
      the delayed optimisers' own updates against the critic's, which ends at
      2.1e-4 for the actor.)
  """
  c = config
  if not c.lr_decay_steps:
    return first
  iterations = -(-c.lr_decay_steps // c.steps_per_iteration)
  updates = max(1, -(-c.updates_at(iterations) // delay))
  return optax.linear_schedule(first, first * c.lr_final, updates)


def network_optimizer(
  config: Config, first: float, delay: int
) -> optax.GradientTransformation:
  """AdamW of a network.

  The decay spares what is normalised (`weight_norm.decay_mask`). With
  `soft_l2` the gradient of `soft_l2 / 2 * sum of squares` of the hidden
  layers is added to the loss's before Adam sees it.

  Args:
    config: the source of every other setting.
    first: learning rate of the first update.
    delay: updates of the critic to each of this network's.
  """
  c = config
  rate = learning_rate(c, first, delay)
  if vary.is_on(c.weight_decay):
    adam = optax.adamw(
      rate,
      b1=c.adam_b1,
      b2=c.adam_b2,
      weight_decay=c.weight_decay,
      mask=weight_norm.decay_mask,
    )
  else:
    adam = optax.adam(rate, b1=c.adam_b1, b2=c.adam_b2)
  if not c.soft_l2:
    return adam
  penalty = optax.add_decayed_weights(c.soft_l2, mask=weight_norm.soft_mask)
  return optax.chain(penalty, adam)
