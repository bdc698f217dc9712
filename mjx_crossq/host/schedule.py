"""When the host has work to do: at multiples of intervals, and at the end."""

from mjx_crossq.config import Config


def next_stop(config: Config, iteration: int) -> int:
  """The next iteration at which the host has work to do.

  Stops are multiples of the intervals, so they are the same in a resumed run.
  """
  stops = [config.iterations]
  for every in (
    config.log_every,
    config.eval_every,
    config.checkpoint_every,
    config.diagnostics_every,
    config.pbt_every,
  ):
    if every:
      iterations = interval(every, config)
      stops.append((iteration // iterations + 1) * iterations)
  return min(stops)


def is_stop(config: Config, iteration: int) -> bool:
  """Whether the host has work to do at an iteration after the first."""
  return next_stop(config, iteration - 1) == iteration


def due(every: int, config: Config, iteration: int) -> bool:
  """Whether something is due: at multiples of its interval and at the end."""
  at_end = iteration == config.iterations
  return at_end or bool(every and iteration % interval(every, config) == 0)


def interval(every: int, config: Config) -> int:
  """An interval of env steps in whole iterations, at least one."""
  return -(-every // config.steps_per_iteration)
