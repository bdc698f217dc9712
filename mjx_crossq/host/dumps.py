"""Updates that were not finite, saved so that they can be run again.

A dump is an `.npz` of arrays and a line of JSON, without any pickle.

    dump = dumps.load('runs/mine/faults/seed3-step120000.npz')
    index, metrics = dump.replay()  # the first update that is not finite
    print(dump.find_op(index))
"""

import dataclasses
import functools
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from mjx_crossq.atomic import replacing
from mjx_crossq.config import Config, ConfigError
from mjx_crossq.device import faults, randomness
from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.envs import prng
from mjx_crossq.host.items import from_dict, to_dict
from mjx_crossq.learner.agent import Agent
from mjx_crossq.learner.networks import EVERYTHING, Sees
from mjx_crossq.learner.states import AgentState, Transition
from mjx_crossq.paths import local


@dataclasses.dataclass(frozen=True)
class Dump:
  """The updates of one iteration and seed.

  Attributes:
    config: of the run.
    seed: the absolute seed.
    iteration: the iteration.
    agent: before the updates.
    batches: leaves `(updates, batch_size, ...)`.
    keys: typed keys of the updates' noise, `(updates,)`.
    with_actor: whether an update has the actor's, `(updates,)`.
    hyper: the row's values of the fields that vary.
    sees: the parts of an observation that actor and critic see.
  """

  config: Config
  seed: int
  iteration: int
  agent: AgentState
  batches: Transition
  keys: jax.Array
  with_actor: np.ndarray
  hyper: Mapping[str, float] = dataclasses.field(default_factory=dict)
  sees: Sees = EVERYTHING

  def replay(self) -> tuple[int | None, list[dict[str, float]]]:
    """Runs the updates again.

    Returns:
      The index of the first one after which the agent is not finite (None if
      there is none), and the metrics of each update up to it.
    """
    state, metrics = self.agent, []
    for index in range(len(self.with_actor)):
      state, found = self._update(state, *self._inputs(index))
      metrics.append({name: float(value) for name, value in found.items()})
      if not faults.is_finite(state):
        return index, metrics
    return None, metrics

  def find_op(self, index: int) -> str:
    """The operation of an update that first gave a NaN, with its line.

    Args:
      index: of the update, as `replay` returns it.
    """
    state = self.agent
    for earlier in range(index):
      state, _ = self._update(state, *self._inputs(earlier))
    return first_nan(
      functools.partial(self._agent.update, with_actor=self._inputs(index)[2]),
      state,
      *self._inputs(index)[:2],
    )

  def _inputs(self, index: int) -> tuple[Transition, jax.Array, bool]:
    one = slice(index, index + 1)
    batch = jax.tree.map(lambda x: x[one], self.batches)
    return batch, self.keys[one], bool(self.with_actor[index])

  @functools.cached_property
  def _agent(self) -> Agent:
    obs, action = self.batches.obs, self.batches.action
    sizes = obs.shape[-1], action.shape[-1]
    return _make_agent(self.config, *sizes, self.hyper, self.sees)

  @functools.cached_property
  def _update(self) -> Any:
    return jax.jit(self._agent.update)


def first_nan(function: Callable[..., Any], *args: Any) -> str:
  """The operation that first gives a NaN, or which results are infinite."""
  checked = checkify.checkify(function, errors=checkify.float_checks)
  error, result = jax.jit(checked)(*args)
  found = error.get_exception()
  if found:
    return ' '.join(str(error.get()).split()) + _place(found)
  broken = [
    name for name, leaf in to_dict(result).items() if not faults.is_finite(leaf)
  ]
  return f'no NaN; infinite: {", ".join(broken) or "nothing"}'


def _place(found: Any) -> str:
  """The innermost line outside of installed packages, as ' at FILE:LINE'."""
  trace = getattr(found, 'traceback_info', None)
  for frame in getattr(trace, 'frames', ()):
    if 'site-packages' not in frame.file_name:
      return f' at {frame.file_name}:{frame.line_num}'
  return ''


def save(folder: Path, runner: Runner, state: TrainState, index: int) -> Path:
  """Writes the dump of a seed that was frozen in the last iteration.

  Args:
    folder: created if it does not exist.
    runner: of the run.
    state: right after that iteration.
    index: of the seed in the run.

  Returns:
    The file.

  Raises:
    WriteError: the operating system refused, for instance on a full disk.
  """
  placement = runner.placement
  done = placement.iteration_of(state.iteration, index)
  iteration = jnp.int32(done - 1)

  def collect(agent, reward_stats, replay, key, hyper):
    trainer = runner.trainer
    functions = trainer.agent.with_hyper(hyper)
    agent = trainer.resets.apply(functions, agent, key, iteration)
    key_learn = randomness.keys(key, iteration).learn
    keys, with_actor = trainer.updates(key_learn, iteration)
    batches = jax.vmap(
      lambda k: trainer.batch(replay, reward_stats, k, iteration)
    )(keys[:, 0])
    return agent, batches, keys[:, 1], with_actor

  parts = state.agent, state.rollout.reward_stats, state.replay, state.key
  agent, batches, keys, with_actor = jax.jit(collect)(
    *placement.seed((*parts, state.hyper), index)
  )
  arrays = {
    **{f'agent/{name}': leaf for name, leaf in to_dict(agent).items()},
    **{f'batches/{name}': leaf for name, leaf in to_dict(batches).items()},
    'keys': jax.random.key_data(keys),
    'with_actor': with_actor,
  }
  record = {
    'config': runner.config.to_dict(),
    'seed': runner.seeds[index],
    'iteration': int(iteration),
    'hyper': {name: float(x[index]) for name, x in state.hyper.items()},
    'sees': runner.trainer.agent.sees,
  }
  step = done * runner.config.steps_per_iteration
  variant = runner.variants[index]
  name = f'seed{runner.seeds[index]}' + (f'-{variant}' if variant else '')
  path = folder / f'{name}-step{step}.npz'
  stored: dict[str, Any] = jax.device_get(arrays)
  with replacing(path) as draft, draft.open('wb') as file:
    np.savez(file, record=np.array(json.dumps(record)), **stored)
  return path


def load(path: str | Path) -> Dump:
  """Reads a dump.

  Raises:
    ConfigError: the file is not a dump, or damaged.
  """
  try:
    with np.load(local(path), allow_pickle=False) as stored:
      arrays = dict(stored)
    record = json.loads(str(arrays['record']))
    config = Config.from_dict(record['config'])
    batches = _named(arrays, 'batches')
    batches = Transition(**jax.tree.map(jnp.asarray, batches))
    hyper = record.get('hyper', {})
    sizes = batches.obs.shape[-1], batches.action.shape[-1]
    parts = record.get('sees', (None, None))
    sees = Sees(*(part and (part[0], part[1]) for part in parts))
    agent = _make_agent(config, *sizes, hyper, sees)
    like = jax.eval_shape(agent.init, prng.key(0))
    return Dump(
      config,
      record['seed'],
      record['iteration'],
      jax.tree.map(jnp.asarray, from_dict(_named(arrays, 'agent'), like)),
      batches,
      jax.random.wrap_key_data(jnp.asarray(arrays['keys']), impl=prng.IMPL),
      arrays['with_actor'],
      hyper,
      sees,
    )
  except (
    *(OSError, ValueError, KeyError, TypeError, EOFError),
    zipfile.BadZipFile,
  ) as error:
    raise ConfigError(f'{path} is not an intact dump ({error})') from None


def _make_agent(
  config: Config,
  obs: int,
  action: int,
  hyper: Mapping[str, float],
  sees: Sees,
) -> Agent:
  """The agent of a row."""
  values = {name: jnp.float32(value) for name, value in hyper.items()}
  return Agent(config, obs, action, values, sees)


def _named(arrays: dict[str, np.ndarray], group: str) -> dict[str, np.ndarray]:
  start = f'{group}/'
  return {
    name.removeprefix(start): leaf
    for name, leaf in arrays.items()
    if name.startswith(start)
  }


class FaultReporter:
  """Reports the faults of a run between two calls of the training program."""

  def __init__(
    self,
    runner: Runner,
    folder: Path | None,
    report: Callable[[str], None],
    *,
    debug: bool,
  ):
    """No seed is frozen until `start` says so.

    Args:
      runner: of the run.
      folder: for the dumps; None writes none.
      report: receives a line about each fault.
      debug: find the operation of each fault; needs calls of one iteration.
    """
    self._runner = runner
    self._folder = folder
    self._report = report
    self._debug = debug
    self._frozen = np.zeros(len(runner.seeds), bool)

  def start(self, state: TrainState) -> None:
    """Stores which seeds are frozen already, and need no report."""
    self._frozen = self._frozen_seeds(state)

  def copy(self, state: TrainState) -> TrainState | None:
    """A copy of what `debug` needs of a state before it is donated."""
    if not self._debug:
      return None
    kept = state.replace(replay=jnp.zeros(()))  # pyright: ignore
    return jax.tree.map(jnp.copy, kept)

  def __call__(self, before: TrainState | None, state: TrainState, sums: Any):
    """Reports the faults since the last call.

    Args:
      before: as `copy` gave it.
      state: after the call.
      sums: of its metrics.
    """
    if before is not None and np.any(sums['env_faults']):
      self._find_physics(before)
    frozen = self._frozen_seeds(state)
    placement, c = self._runner.placement, self._runner.config
    for index in np.flatnonzero(frozen & ~self._frozen):
      done = placement.iteration_of(state.iteration, int(index))
      step = done * c.steps_per_iteration
      line = (
        f'warning: {self._runner.label(int(index))}: an update before env step '
        f'{step:,} was not finite; the seed keeps the agent from before it'
      )
      if self._folder:
        path = save(self._folder, self._runner, state, int(index))
        line += f'; dump: {path}'
        if self._debug:
          dump = load(path)
          first, _ = dump.replay()
          found = 'not reproduced' if first is None else dump.find_op(first)
          line += f'; operation: {found}'
      self._report(line)
    self._frozen = frozen

  def _frozen_seeds(self, state: TrainState) -> np.ndarray:
    return np.array(self._runner.placement.without_copies(state.frozen))

  def _find_physics(self, before: TrainState) -> None:
    """Repeats a decision of every seed and reports the first NaN in each."""
    trainer, placement = self._runner.trainer, self._runner.placement
    for index in range(len(self._runner.seeds)):
      parts = before.agent, before.rollout, before.key, before.hyper
      agent, rollout, key, hyper = placement.seed(parts, index)
      iteration = placement.iteration_of(before.iteration, index)
      state = agent, rollout, None, key, jnp.int32(iteration), None, hyper
      one = TrainState(*state)  # pyright: ignore
      rollout, action = jax.jit(trainer.decide)(one)
      args = rollout, action, one.iteration, trainer.config.gamma
      finite = jax.jit(trainer.rollout.step)(*args)[2]
      if not np.all(finite):
        step = lambda *a: trainer.rollout.step(*a)[0].env  # noqa: E731
        found = first_nan(step, *args)
        label = self._runner.label(index)
        self._report(f'warning: {label}: physics not finite: {found}')
