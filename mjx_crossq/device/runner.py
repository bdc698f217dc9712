"""The seeds of a run as one program.

Only this module and the placements know of the axis of the seeds; everything
else is written for one seed. Here `vmap` adds the seeds, `jit`
compiles and the whole state is donated, so that the replay is written in
place from chunk to chunk.

The arrays that stay on the devices, the state and the sums, have the rows of
the placement; those that are given to the host have one row for each seed.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq import vary
from mjx_crossq.config import Config
from mjx_crossq.device import data_parallel as data_parallel_lib
from mjx_crossq.device import diagnostics, seeds_over_devices
from mjx_crossq.device.placement import COUNTER, STATE, OneDevice
from mjx_crossq.device.rollout import Rollout
from mjx_crossq.device.sums import zero_sums
from mjx_crossq.device.trainer import Trainer, TrainState
from mjx_crossq.envs import prng, settings
from mjx_crossq.envs.base import Env
from mjx_crossq.errors import ConfigError
from mjx_crossq.learner.agent import Metrics
from mjx_crossq.learner.states import Network, Transition

# The iteration counter is shared; other leaves have the seeds as first axis.
SEED_AXES: TrainState = STATE.replace(iteration=None)  # pyright: ignore


class Runner:
  """The compiled programs of a run: init, train, evaluate, diagnose.

  Attributes:
    config: the configuration.
    trainer: the functions for one seed.
    seeds: absolute seeds of the rows, `config.seed + index`; with
      `config.vary` all of each variant.
    variants: names of the rows' variants, '' where nothing varies.
    hyper: the first values of what varies, `(rows,)` each.
    placement: of the rows on devices.
    traces: how often each program was traced; 1 each in a healthy run.
  """

  def __init__(
    self,
    config: Config,
    env: Env,
    devices: Sequence[Any] | None = None,
    *,
    data_parallel: bool = False,
    platform: str | None = None,
  ):
    """Compiles nothing yet.

    Args:
      config: the configuration.
      env: the environment.
      devices: over which the seeds are distributed; None for the default one.
      data_parallel: divide one seed over them instead.
      platform: of programs that are compiled for chips that are not here; None
        for that of the devices.

    Raises:
      ConfigError: they do not fit together.
    """
    try:
      settings.check()
    except ValueError as error:
      raise ConfigError(error) from None
    if env.backend != config.physics:
      raise ConfigError(
        f'physics={config.physics!r}, but the environment has {env.backend!r}: '
        f'make it by envs.load({config.task!r}, physics={config.physics!r})'
      )
    self.config = config
    rows = vary.rows(config)
    self.seeds = [seed for _, seed in rows]
    self.variants = [variant.name for variant, _ in rows]
    self.hyper = vary.hyper(config)
    self.placement = placement_of(
      config, devices, data_parallel=data_parallel, platform=platform
    )
    self.trainer = Trainer(config, env, self.placement.layout)
    self.placement.prepare(self.trainer)
    self.traces: dict[str, int] = {}
    self._evaluation = Rollout(env, config.eval_episodes, config.action_repeat)

    trainer = self.trainer
    agent = trainer.agent
    self._init = self._program('init', trainer.init, (0, 0), STATE)
    self._train_chunk = self._program(
      'train_chunk',
      trainer.train_chunk,
      (STATE, None, 0),
      (STATE, 0),
      donate=(0,),
    )
    self._evaluate = self._program('evaluate', self._returns, (0, 0), 0)
    self._act = self._program('act', agent.act_deterministic, (0, 0), 0)

    def diagnose(hyper, *args):
      return diagnostics.Diagnostics(trainer, hyper).diagnose(*args)

    self._diagnose: Any = self._program(
      'diagnose', diagnose, (0, 0, 0, 0, COUNTER, 0), 0
    )

  def _program(self, name, function, in_axes, out_axes, donate=()):
    """`function` of one seed as a compiled program of all seeds."""
    batched = self.placement.wrap(function, in_axes, out_axes)
    options = self.placement.jit_options(in_axes, out_axes)
    self.traces[name] = 0

    def traced(*args):
      self.traces[name] += 1
      return batched(*args)

    traced.__name__ = name
    return jax.jit(traced, donate_argnums=donate, **options)

  def label(self, row: int) -> str:
    """The name of a row in messages: its seed, and its variant if any."""
    variant = self.variants[row]
    return f'seed {self.seeds[row]}' + (f' of {variant}' if variant else '')

  def init(self, transitions: Transition | None = None) -> TrainState:
    """The state of all seeds before the first iteration.

    Args:
      transitions: with leaves `(config.init_transitions, ...)`, with which the
        replay of every seed begins.
    """
    state = self._init(*self._placed_start())
    if transitions is None:
      return state
    rows = np.asarray(self.trainer.replay.pack(transitions))

    def write(buffer, rows):
      return buffer.at[..., : len(rows), :].set(rows)

    place = jax.jit(
      write, donate_argnums=0, out_shardings=state.replay.sharding
    )
    return state.replace(replay=place(state.replay, rows))  # pyright: ignore

  def abstract_state(self) -> TrainState:
    """Shapes and types of the state; nothing is computed."""
    shapes = jax.eval_shape(self._init, *self._placed_start())
    return self.placement.abstract(shapes)

  def _placed_start(self) -> tuple:
    """The arguments of the program `init`."""
    return self.placement.place((seed_keys(self.seeds), self.hyper))

  def iteration(self, state: TrainState) -> int:
    """Iterations that every device has done."""
    return int(np.min(np.asarray(state.iteration)))

  def env_step(self, state: TrainState) -> int:
    """Env steps per seed that every device has done."""
    return self.iteration(state) * self.config.steps_per_iteration

  def in_step(self, state: TrainState) -> bool:
    """Whether all devices have done the same iterations."""
    return np.ptp(np.asarray(state.iteration)) == 0

  def train_chunk(
    self, state: TrainState, stop: int, sums: Metrics | None = None
  ) -> tuple[TrainState, Metrics]:
    """Iterates all seeds; `state` is consumed.

    Args:
      state: of all seeds.
      stop: the iteration to stop at. A chunk ends before it if a seed is
        frozen, on the device of that seed; the next call goes on.
      sums: of the chunk that this one goes on from, `(rows,)` each; None
        begins anew.

    Returns:
      The state, and sums of metrics of shape `(rows,)` each, where `rows` is
      that of the placement.
    """
    sums = self.zero_sums() if sums is None else sums
    return self._train_chunk(state, jnp.int32(stop), sums)

  def zero_sums(self) -> Metrics:
    """The sums of a chunk before it begins, `(rows,)` each."""
    rows, watched = self.placement.rows, self.trainer.rollout.env.watched
    return self.placement.place(
      jax.tree.map(lambda x: jnp.zeros(rows, x.dtype), zero_sums(watched))
    )

  def evaluate(self, policy: Network, step: int) -> np.ndarray:
    """Returns of the deterministic policy in this project's environment.

    Args:
      policy: actors of all seeds.
      step: env step of the policy; with the seed it decides the episodes.

    Returns:
      Undiscounted returns, `(num_seeds, eval_episodes)`.
    """
    args = self.placement.place((policy, self._keys_at(step)))
    return self._for_host(self._evaluate(*args))

  def reset_keys(self, step: int) -> jax.Array:
    """Keys of the initial states of `evaluate`'s episodes.

    Args:
      step: env step of the policy.

    Returns:
      Typed keys, `(num_seeds, eval_episodes)`.
    """
    count = self.config.eval_episodes
    keys = self._keys_at(step)
    return jax.vmap(lambda key: jax.random.split(key, count))(keys)

  def diagnose(self, state: TrainState, step: int) -> dict[str, np.ndarray]:
    """Measures what `diagnostics.py` defines; changes nothing.

    Args:
      state: of all seeds, after one iteration or more.
      step: its env step; with the seed it decides batches and episodes.

    Returns:
      Values of shape `(num_seeds,)` by name.
    """
    found = self._for_host(self._diagnose(*self._diagnosed(state, step)))
    return diagnostics.with_ranks(found)

  def compile_diagnose(self, state: TrainState) -> None:
    """Compiles `diagnose` for a state, so that a call is the cost of one."""
    lowered = self._diagnose.lower(*self._diagnosed(state, 0))
    self._diagnose = lowered.compile()

  def _diagnosed(self, state: TrainState, step: int) -> tuple:
    """The arguments of the program `diagnose`."""
    stats = state.rollout.reward_stats
    keys = self.placement.place(self._keys_at(step))
    of_rows = state.hyper, state.agent, stats, state.replay
    return *of_rows, state.iteration, keys

  def _keys_at(self, step: int) -> jax.Array:
    """Keys of evaluations and diagnostics at an env step, one for each seed."""
    keys = seed_keys(self.seeds)
    high, low = divmod(step, 2**32)
    for part in (low, high) if high else (low,):
      keys = jax.vmap(lambda key, n=part: jax.random.fold_in(key, n))(keys)
    return keys

  def act(self, policy: Network, obs: np.ndarray) -> np.ndarray:
    """Deterministic actions, `(num_seeds, rows, action_size)`.

    Args:
      policy: actors of all seeds.
      obs: `(num_seeds, rows, observation_size)`.
    """
    return self._for_host(self._act(*self.placement.place((policy, obs))))

  def _for_host(self, tree: Any) -> Any:
    """Arrays of numpy with one row for each seed."""
    return self.placement.without_copies(jax.tree.map(np.asarray, tree))

  def _returns(self, policy: Network, key: jax.Array) -> jax.Array:
    """Returns of one seed's evaluation episodes, `(eval_episodes,)`."""
    agent = self.trainer.agent
    return self._evaluation.returns(
      lambda obs: agent.act_deterministic(policy, obs), key
    )

  def lower_train_chunk(self) -> Any:
    """The training program before compilation, for inspection."""
    return self._train_chunk.lower(
      self.abstract_state(),
      jax.ShapeDtypeStruct((), jnp.int32),
      self.zero_sums(),
    )

  def trace_train_chunk(self, device: Any) -> Any:
    """The training program for one device, which need not be here.

    Args:
      device: of any platform.

    Returns:
      What `jit`'s `trace` gives; lower it for the device's platform.
    """
    sharding = jax.sharding.SingleDeviceSharding(device)

    def there(tree):
      return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        tree,
      )

    stop = jax.ShapeDtypeStruct((), jnp.int32)
    sums = jax.eval_shape(self.zero_sums)
    arguments = self.abstract_state(), stop, sums
    return self._train_chunk.trace(*map(there, arguments))


def placement_of(
  config: Config,
  devices: Sequence[Any] | None = None,
  *,
  data_parallel: bool = False,
  platform: str | None = None,
) -> OneDevice:
  """Which device holds which seeds, those of all variants.

  Args:
    config: the configuration.
    devices: that may be used; None for the default one.
    data_parallel: divide one seed over them.
    platform: of the programs; None for that of the devices.

  Raises:
    ConfigError: it cannot be divided.
  """
  if not data_parallel:
    return seeds_over_devices.place_seeds(
      len(vary.rows(config)), devices, platform
    )
  devices = tuple(devices or jax.devices()[:1])
  data_parallel_lib.check(config, len(devices))
  if len(devices) == 1:
    return OneDevice(1, devices[0], platform)
  return data_parallel_lib.SeedOverDevices(config, devices)


def seed_keys(seeds: Sequence[int]) -> jax.Array:
  """A typed key for each seed, `(num_seeds,)`, which depends on it alone."""
  return jnp.stack([prng.key(seed) for seed in seeds])
