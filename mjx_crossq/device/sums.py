"""What a chunk of training sums up: metrics of the updates, and counts."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from mjx_crossq.learner.agent import ACTOR_METRICS, CRITIC_METRICS, Metrics

# The counts of a chunk, each with the metrics that are measured as often.
COUNTS = {'updates': CRITIC_METRICS, 'actor_updates': ACTOR_METRICS}
LEARNED = (*COUNTS, *CRITIC_METRICS, *ACTOR_METRICS)
# Counts without metrics.
EVENTS = ('env_faults',)


def sum_names(watched: Sequence[str]) -> tuple[str, ...]:
  """The names of all sums, in the order that the training loop carries them.

  Args:
    watched: the counts of the environment, `Env.watched`.
  """
  return *LEARNED, *EVENTS, *watched


def zero_sums(watched: Sequence[str] = ()) -> Metrics:
  """The sums before the first iteration: every metric and every count.

  Args:
    watched: the counts of the environment, `Env.watched`.
  """
  return {name: jnp.float32(0) for name in sum_names(watched)}


def mean_metrics(sums: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Averages of a chunk's metrics over its updates, on the host.

  Args:
    sums: what `train_chunk` returns, with any leading axes.

  Returns:
    The means (those of the actor over the actor's updates; NaN where there
    was none), and the counts themselves.
  """
  metrics = CRITIC_METRICS + ACTOR_METRICS
  counts = {k: np.asarray(x) for k, x in sums.items() if k not in metrics}
  with np.errstate(invalid='ignore'):
    means = {
      name: np.asarray(sums[name]) / counts[count]
      for count, names in COUNTS.items()
      for name in names
    }
  return means | counts
