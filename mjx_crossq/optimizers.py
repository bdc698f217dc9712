"""The optimisers: AdamW that knows what weight normalisation leaves free."""

import optax

from mjx_crossq import weight_norm
from mjx_crossq.config import Config


def network_optimizer(
  config: Config, learning_rate: float
) -> optax.GradientTransformation:
  """AdamW of a network.

  The decay spares what is normalised (`weight_norm.decay_mask`). With
  `soft_l2` the gradient of `soft_l2 / 2 * sum of squares` of the hidden
  layers is added to the loss's before Adam sees it.

  Args:
    config: the source of every other setting.
    learning_rate: of this network.
  """
  c = config
  if c.weight_decay:
    adam = optax.adamw(
      learning_rate,
      b1=c.adam_b1,
      b2=c.adam_b2,
      weight_decay=c.weight_decay,
      mask=weight_norm.decay_mask,
    )
  else:
    adam = optax.adam(learning_rate, b1=c.adam_b1, b2=c.adam_b2)
  if not c.soft_l2:
    return adam
  penalty = optax.add_decayed_weights(c.soft_l2, mask=weight_norm.soft_mask)
  return optax.chain(penalty, adam)
