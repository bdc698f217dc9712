"""The random keys of the loop."""

from typing import NamedTuple

import jax


class Keys(NamedTuple):
  """The keys of one iteration, `()` each.

  Attributes:
    act: of the noise of the actions.
    reset: of the initial states of new episodes.
    learn: of the batches and the noise of the updates.
  """

  act: jax.Array
  reset: jax.Array
  learn: jax.Array


def keys(key: jax.Array, iteration: jax.Array) -> Keys:
  """The keys of an iteration, from the constant key of the loop.

  All randomness of a run is a tree that depends on the seed and the iteration
  alone, so that a resumed run equals the undisturbed one:

      key(seed) -> split -> the first agent
                         -> loop -> fold_in(iteration) -> act, reset, learn
                                    learn -> a key for each update
                                             -> split -> batch, noise
                            loop -> fold_in(-1) -> fold_in(index)
                                    -> the agent after a reset (`resets.py`)
                -> fold_in(env step) -> evaluation, diagnostics (`runner.py`)
                -> fold_in(-2) -> fold_in(iteration) -> a step of PBT

  Args:
    key: `TrainState.key`.
    iteration: iterations done before, `()`.
  """
  return Keys(*jax.random.split(jax.random.fold_in(key, iteration), 3))
