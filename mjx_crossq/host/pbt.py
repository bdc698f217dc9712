"""Population based training over the rows of one program (arXiv 1711.09846).

Truncation selection: at a step the worst fifth of the rows each take the agent
and the hyper-parameters of a row of the best fifth (exploit), and multiply each
hyper-parameter by 0.8 or 1.25 (explore). One program on the device; nothing but
a few scalars a row comes to the host. The replay and the environments stay the
row's own.

The randomness is of the run's seed and the iteration alone, and a step belongs
to the first call of the training program after a stop, so that no checkpoint
comes between: a resumed run equals the undisturbed one.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.config import bounds
from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs.base import Env
from mjx_crossq.host import schedule

SHARE = 0.2  # of the rows that are replaced, and that replace them
FACTORS = (0.8, 1.25)
# Folded into the key of the run's first seed; evaluations fold in env steps.
_STREAM = np.uint32(2**32 - 2)


def select(scores: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Which row each row goes on from.

  Args:
    scores: of the rows, `(rows,)`; -inf for one that cannot be a source, NaN
      for one that has none yet, which postpones the step.
    key: randomness.

  Returns:
    The rows' sources, `(rows,)`, the row itself where it stays as it is; and
    which rows are replaced, `(rows,)`. A row is replaced by a better one only.
  """
  rows = scores.shape[0]
  count = max(1, int(SHARE * rows))
  order = jnp.argsort(scores)  # NaN comes last; then nothing is done
  drawn = jax.random.randint(key, (count,), rows - count, rows)
  itself = jnp.arange(rows)
  source = itself.at[order[:count]].set(order[drawn])
  replaced = scores[source] > scores
  replaced &= ~jnp.any(jnp.isnan(scores))
  return jnp.where(replaced, source, itself), replaced


def perturb(name: str, values: jax.Array, key: jax.Array) -> jax.Array:
  """Hyper-parameters multiplied by 0.8 or 1.25, each with probability 1/2.

  Of `gamma` it is `1 - gamma` that is multiplied. What is negative stays so.

  Args:
    name: the field.
    values: `(rows,)`.
    key: randomness.

  Returns:
    New values, within the field's bounds.
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

  A row's score is the mean over its environments of the last finished training
  episode's return. A frozen row has -inf: it is replaced first, goes on from
  then, and is never a source. With `normalize_rewards` the moments of the
  returns come with the agent, whose critic is in their unit.

  Args:
    state: of all rows, and perhaps of copies of the last one behind them
      (devices may hold such), which stay copies; the replay is not looked at.
    key: randomness.
    rows: how many there are without copies.

  Returns:
    The state, and of each row `score`, `source` and whether it is `replaced`.
  """
  key_select, key_perturb = jax.random.split(key)
  score = jnp.mean(state.rollout.last_return, axis=1)
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
    moments = {n: take(getattr(stats, n)) for n in ('count', 'mean', 'var')}
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
  """The steps of a run; without `config.pbt_every` there are none.

  Attributes:
    traces: how often the program was traced; 1 in a healthy run.
  """

  def __init__(
    self,
    runner: Runner,
    env: Env,
    files: Any,
    report: Callable[[str], None],
  ):
    """Compiles nothing yet.

    Args:
      runner: of the run.
      env: says how long an episode is.
      files: `VariantFiles`, which get a record of each step; None for none.
      report: receives a line about each step.
    """
    self._runner = runner
    self._files = files
    self._report = report
    self._episode = env.episode_length // runner.config.action_repeat
    self._step: Any = None
    self.traces = 0

  def _compile(self, state: TrainState) -> Any:
    """The program, which leaves each array on the devices it was on."""

    def traced(state, key):
      self.traces += 1
      return step(state, key, len(self._runner.seeds))

    places = jax.tree.map(lambda x: x.sharding, state)
    return jax.jit(traced, donate_argnums=0, out_shardings=(places, None))

  def due(self, iteration: int) -> bool:
    """Whether a step comes before an iteration.

    None comes before the scores are those of episodes without warm-up, which
    began after it and have ended.
    """
    c = self._runner.config
    if not c.pbt_every or iteration % schedule.interval(c.pbt_every, c):
      return False
    begun = (iteration // self._episode - 1) * self._episode
    return begun >= c.warmup_iterations

  def __call__(self, state: TrainState, iteration: int) -> TrainState:
    """The state after the step that is due, if any; `state` is consumed then.

    Args:
      state: of all rows.
      iteration: iterations done.
    """
    if not self.due(iteration):
      return state
    c = self._runner.config
    key = jax.random.fold_in(jax.random.key(c.seed), _STREAM)
    key = jax.random.fold_in(key, iteration)
    replay = state.replay
    rest: Any = state.replace(replay=None)  # pyright: ignore
    self._step = self._step or self._compile(rest)
    state, found = self._step(rest, key)
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
  """What varies as series `hyper/...` of shape `(rows,)`.

  The values are the shortest decimals that are the same float32.
  """
  return {
    f'hyper/{name}': np.array([float(str(x)) for x in np.asarray(values)])
    for name, values in hyper.items()
  }
