"""A configuration that is measured: its programs and its state."""

import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mjx_crossq import Runner
from mjx_crossq.config import Config
from mjx_crossq.device.budget import Budget
from mjx_crossq.launch.bench import breakdown, timing

_SECONDS = 1.0
"""The approximate length of a timed chunk."""


class Case:
  """The compiled training program of a configuration, with a full replay.

  The replay holds arbitrary transitions, because the time of an update does not
  depend on their values. It is full so that samples read all of its memory.

  Attributes:
    config: the configuration.
    runner: its programs.
    compile_seconds: of `init` and the training program.
    chunk: iterations of a timed chunk.
  """

  def __init__(
    self,
    config: Config,
    env: Any,
    chunk: int | None = None,
    devices: Sequence[Any] | None = None,
  ):
    """Compiles the programs and fills the replay.

    Args:
      config: the configuration.
      env: its environment.
      chunk: iterations of a timed chunk; None for about a second.
      devices: over which the seeds are distributed; None for the default one.

    Raises:
      ConfigError: the state does not fit the memory.
    """
    self.config = config
    self.runner = Runner(config, env, devices)
    self._budget = Budget.of(
      self.runner.abstract_state(), self.runner.placement.devices
    )
    self._budget.check()
    start = time.monotonic()
    lowered = self.runner.lower_train_chunk()
    self._program = lowered.compile()
    self.state = self.runner.init()
    jax.block_until_ready(self.state)
    self.compile_seconds = time.monotonic() - start
    filled = max(
      config.warmup_iterations, config.replay_rows // config.num_envs
    )
    episode = env.episode_length // config.action_repeat
    self._at = -(-filled // episode) * episode  # an episode begins here
    self._fill()
    self.chunk = self._whole(chunk or 1)
    if chunk is None:
      self._iterate(1)
      start = time.monotonic()
      self._iterate(2)
      fits = round(2 * _SECONDS / (time.monotonic() - start))
      self.chunk = self._whole(max(2, fits))

  def _whole(self, iterations: int) -> int:
    """Rounded up so that every chunk has as many updates."""
    every = self.config.update_every
    return -(-iterations // every) * every

  def _fill(self) -> None:
    """Fills the replay in place."""

    @functools.partial(jax.jit, donate_argnums=0)
    def fill(replay: Any) -> Any:
      row = jax.lax.broadcasted_iota(jnp.float32, replay.shape, 1)
      column = jax.lax.broadcasted_iota(jnp.float32, replay.shape, 2)
      return replay + jnp.sin(row * (1.0 + column))

    self.state = self.state.replace(  # pyright: ignore
      replay=fill(self.state.replay),
      iteration=self.runner.placement.counter(self._at),
    )

  def run(self) -> None:
    """Runs one chunk of the whole loop."""
    self._iterate(self.chunk)

  def _iterate(self, iterations: int) -> None:
    sums = self.runner.zero_sums()
    self._run(lambda state, stop: self._program(state, stop, sums), iterations)

  def _run(self, program: Any, iterations: int) -> None:
    """Iterates a program that takes the state and the iteration to stop at."""
    stop = jnp.int32(self._at + iterations)
    result = program(self.state, stop)
    self.state = result[0] if isinstance(result, tuple) else result
    jax.block_until_ready(self.state)
    self._at += iterations

  def split(self, repeats: int) -> dict[str, float]:
    """Times the whole loop and each of its parts, interleaved.

    Args:
      repeats: of each.

    Returns:
      Milliseconds of an iteration: 'whole', each part, and 'rest', which is
      the whole minus the parts.
    """
    parts = breakdown.Parts(self.runner.trainer).functions()
    programs = {
      name: breakdown.compile_part(self.runner, part)
      for name, part in parts.items()
    }
    chunks = {}
    for name, program in programs.items():
      self._run(program, 1)
      start = time.monotonic()
      self._run(program, 10)
      seconds = (time.monotonic() - start) / 10
      fits = self._whole(int(0.2 * _SECONDS / seconds))
      chunks[name] = max(self.chunk, fits)

    def runner(name: str) -> Any:
      return lambda: self._run(programs[name], chunks[name])

    timed = {'whole': self.run, **{name: runner(name) for name in programs}}
    times = timing.interleaved(timed, repeats)
    chunks['whole'] = self.chunk
    result = {n: 1e3 * t.median / chunks[n] for n, t in times.items()}
    rest = result['whole'] - sum(result[name] for name in programs)
    return {**result, 'rest': rest}

  def memory(self) -> dict[str, int]:
    """Bytes of each part of the state, and of the program's temporaries."""
    memory = self._program.memory_analysis()
    temporary = getattr(memory, 'temp_size_in_bytes', 0)
    b = self._budget
    return {
      'replay': b.replay,
      'agent': b.agent,
      'env': b.env,
      'temporary': int(temporary),
    }

  def summary(self, measured: timing.Time) -> dict[str, Any]:
    """A row of results.

    Args:
      measured: times of chunks of `self.chunk` iterations.

    Returns:
      The configuration and its speeds.
    """
    c = self.config
    seconds = measured.median / self.chunk
    updates = c.updates_per_iteration / c.update_every / seconds
    return {
      'task': c.task,
      'preset': c.preset,
      'num_seeds': c.num_seeds,
      'devices': len(self.runner.placement.devices),
      'num_envs': c.num_envs,
      'utd': c.utd,
      'critic_width': c.critic_width,
      'replay_capacity': c.replay_capacity,
      'matmul_precision': c.matmul_precision,
      'compile_seconds': round(self.compile_seconds, 1),
      'ms_per_iteration': 1e3 * seconds,
      'env_steps_per_second': c.steps_per_iteration / seconds,
      'updates_per_second': updates,
      'seed_updates_per_second': c.num_seeds * updates,
      'spread': round(measured.spread, 2),
      'memory': self.memory(),
    }


def measure(cases: list[Case], repeats: int) -> list[dict[str, Any]]:
  """Times chunks of several cases, interleaved.

  Args:
    cases: compiled and warm.
    repeats: chunks of each.

  Returns:
    A row for each.
  """
  names = [str(index) for index in range(len(cases))]
  programs = {n: case.run for n, case in zip(names, cases, strict=True)}
  times = timing.interleaved(programs, repeats)
  return [case.summary(times[n]) for n, case in zip(names, cases, strict=True)]
