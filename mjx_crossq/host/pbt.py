"""Population based training over the rows of one program (arXiv 1711.09846).

Truncation selection: at a step, each row of the worst fifth takes the agent and
the hyper-parameters of a row of the best fifth (exploit) and multiplies each
hyper-parameter by 0.8 or 1.25 (explore). Every row keeps its own replay and
environments. A step is one program on the device; the host receives a few
scalars per row.

The random numbers depend on the run's seed and the iteration only, and no
checkpoint is written between a step and the call of the training program that
follows it: a resumed run equals one that was never stopped.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.config import bounds
from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs import prng
from mjx_crossq.host import schedule
from mjx_crossq.host.run_files import RunFiles
from mjx_crossq.learner import reward_scale

SHARE = 0.2  # share of rows that are replaced, and of rows that replace them
FACTORS = (0.8, 1.25)
# Folded into the key of the run's first seed; evaluations fold in env steps.
_STREAM = np.uint32(2**32 - 2)


def select(scores: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Chooses from which row each row continues.

  Args:
    scores: of the rows, `(rows,)`; -inf for a row that cannot be a source. If
      one is NaN (it has no score yet), no row is replaced.
    key: randomness.

  Returns:
    The rows' sources, `(rows,)`, the row itself where it is not replaced; and
    which rows are replaced, `(rows,)`. The source of a replaced row has a
    higher score.
  """
  rows = scores.shape[0]
  count = max(1, int(SHARE * rows))
  order = jnp.argsort(scores)  # NaN comes last
  drawn = jax.random.randint(key, (count,), rows - count, rows)
  itself = jnp.arange(rows)
  source = itself.at[order[:count]].set(order[drawn])
  replaced = scores[source] > scores
  replaced &= ~jnp.any(jnp.isnan(scores))
  return jnp.where(replaced, source, itself), replaced


def perturb(name: str, values: jax.Array, key: jax.Array) -> jax.Array:
  """Hyper-parameters multiplied by 0.8 or 1.25, each with probability 1/2.

  For `gamma`, `1 - gamma` is multiplied.

  Args:
    name: the field.
    values: `(rows,)`.
    key: randomness.

  Returns:
    New values `(rows,)`, within the field's bounds.
  """
  low, high = FACTORS
  up = jax.random.bernoulli(key, shape=values.shape)
  factor = jnp.where(up, high, low)
  new = 1 - (1 - values) * factor if name == 'gamma' else values * factor
  return jnp.clip(new, *bounds(name))


def step(
  state: TrainState, key: jax.Array, rows: int
) -> tuple[TrainState, dict[str, jax.Array]]:
  """One step of the population.

  A row's score is the return of the last finished training episode, averaged
  over its environments. A frozen row has -inf: it is never a source, is
  replaced first, and trains again from then on. With `normalize_rewards` the
  moments of the returns are copied with the agent, because its critic predicts
  returns in their unit.

  Args:
    state: of all rows, perhaps followed by copies of the last one that fill
      the devices (`placement`), which stay copies; the replay is not used.
    key: randomness.
    rows: their number without copies.

  Returns:
    The state, and for each row `score`, `source` and whether it is `replaced`.
  """
  key_select, key_perturb = jax.random.split(key)
  score = jnp.nanmean(state.rollout.last_return, axis=1)
  score = jnp.where(state.frozen, -jnp.inf, score)[:rows]
  source, replaced = select(score, key_select)
  original = jnp.minimum(jnp.arange(state.frozen.shape[0]), rows - 1)

  def take(tree):
    return jax.tree.map(lambda x: x[source[original]], tree)

  def explore(index, name, values):
    taken = values[source]
    own = jax.random.fold_in(key_perturb, index)
    new = jnp.where(replaced, perturb(name, taken, own), taken)
    return new[original]

  rollout, stats = state.rollout, state.rollout.reward_stats
  if stats is not None:
    moments = {n: take(getattr(stats, n)) for n in reward_scale.MOMENTS}
    stats = stats.replace(**moments)
    rollout = rollout.replace(reward_stats=stats)  # pyright: ignore
  state = state.replace(  # pyright: ignore
    agent=take(state.agent),
    frozen=take(state.frozen),
    hyper={
      name: explore(index, name, values)
      for index, (name, values) in enumerate(sorted(state.hyper.items()))
    },
    rollout=rollout,
  )
  return state, {'score': score, 'source': source, 'replaced': replaced}


class Population:
  """Takes the steps of a run when they are due; without `pbt_every` none is.

  Attributes:
    traces: how often the program was traced; at most 1.
  """

  def __init__(
    self,
    runner: Runner,
    files: RunFiles | None,
    report: Callable[[str], None],
  ):
    """The program is compiled at the first step.

    Args:
      runner: of the run.
      files: get a record of each step; None for no records.
      report: receives a line about each step.
    """
    self._runner = runner
    self._files = files
    self._report = report
    rollout = runner.trainer.rollout
    self._episode = rollout.decisions
    self._ahead = rollout.offsets // rollout.action_repeat
    self._step: Any = None
    self.traces = 0

  def _compile(self, state: TrainState) -> Any:
    """The program, which leaves each array on the devices that hold it."""

    def traced(state, key):
      self.traces += 1
      return step(state, key, len(self._runner.seeds))

    places = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(traced, donate_argnums=0, out_shardings=(places, None))

  def due(self, iteration: int) -> bool:
    """Whether a step comes before an iteration.

    The first one waits until in every environment an episode that began after
    the warm-up has ended and given a score.
    """
    c = self._runner.config
    if not c.pbt_every or iteration % schedule.interval(c.pbt_every, c):
      return False
    ahead = self._ahead
    begun = (iteration + ahead) // self._episode - 1
    return bool(np.all(begun * self._episode - ahead >= c.warmup_iterations))

  def __call__(self, state: TrainState, iteration: int) -> TrainState:
    """The state after the step that is due, if any; then `state` is donated.

    Args:
      state: of all rows.
      iteration: iterations done.
    """
    if not self.due(iteration):
      return state
    c = self._runner.config
    key = jax.random.fold_in(prng.key(c.seed), _STREAM)
    key = jax.random.fold_in(key, iteration)
    replay = state.replay
    state = state.replace(replay=None)  # pyright: ignore
    self._step = self._step or self._compile(state)
    state, found = self._step(state, key)
    state = state.replace(replay=replay)  # pyright: ignore
    score, source, replaced = (
      np.asarray(found[name]) for name in ('score', 'source', 'replaced')
    )
    env_step = iteration * c.steps_per_iteration
    if self._files:
      hyper = self._runner.placement.without_copies(state.hyper)
      self._files.write_pbt(
        {
          'env_step': env_step,
          'score': [float(x) if np.isfinite(x) else None for x in score],
          'source': source.tolist(),
          'replaced': replaced.tolist(),
          **{name: x.tolist() for name, x in series(hyper).items()},
        }
      )
    copied = [f'{row} from {source[row]}' for row in np.flatnonzero(replaced)]
    said = f'row {", ".join(copied)}' if copied else 'no row is replaced'
    self._report(f'{env_step:>9,} PBT: {said}')
    return state


def series(hyper: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The values that vary as series `hyper/...` of shape `(rows,)`.

  Each is the shortest decimal number that rounds to the same float32.
  """
  return {
    f'hyper/{name}': np.array([float(str(x)) for x in np.asarray(values)])
    for name, values in hyper.items()
  }
