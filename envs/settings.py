"""Settings of JAX that would change what this package's programs compute.

Keys name their implementation (`envs.prng.key`), and the precision of matrix
products is a field of `Config`, so that JAX's settings of these have no effect.
Other settings that change numbers, or break the programs, are refused.
"""

from collections.abc import Iterable
from typing import Any

_NUMBERS = 'all random numbers would be different'
_PROGRAMS = 'the programs of this package do not work with it'
_NANS = 'train with --debug_nans instead'
_GUARDS = ('allow', 'log', 'log_explicit', None)

ACCEPTED: dict[str, tuple[tuple[Any, ...], str]] = {
  'jax_enable_x64': ((False,), 'networks, replay and physics are float32'),
  'jax_threefry_partitionable': ((True,), _NUMBERS),
  'jax_random_seed_offset': ((0,), _NUMBERS),
  'jax_numpy_dtype_promotion': (('standard',), _PROGRAMS),
  'jax_numpy_rank_promotion': (('allow', 'warn'), _PROGRAMS),
  'jax_debug_nans': ((False,), _NANS),
  'jax_debug_infs': ((False,), _NANS),
  'jax_error_checking_behavior_nan': (('ignore',), _NANS),
  'jax_error_checking_behavior_divide': (('ignore',), _PROGRAMS),
  'jax_error_checking_behavior_oob': (('ignore',), _PROGRAMS),
  'jax_debug_key_reuse': ((False,), _PROGRAMS),
  'jax_disable_jit': ((False,), 'nothing would be compiled'),
  'jax_no_tracing': ((False,), _PROGRAMS),
  'jax_no_execution': ((False,), _PROGRAMS),
  'jax_transfer_guard': (_GUARDS, _PROGRAMS),
  'jax_transfer_guard_host_to_device': (_GUARDS, _PROGRAMS),
  'jax_transfer_guard_device_to_device': (_GUARDS, _PROGRAMS),
  'jax_transfer_guard_device_to_host': (_GUARDS, _PROGRAMS),
}
"""For each setting the values that are accepted, and why others are not."""

OF_ENVIRONMENTS = (
  'jax_threefry_partitionable',
  'jax_random_seed_offset',
  'jax_numpy_dtype_promotion',
  'jax_numpy_rank_promotion',
)
"""Those that `envs.load` checks; physics may be measured in float64."""


def check(names: Iterable[str] = tuple(ACCEPTED)) -> None:
  """Refuses settings with which programs would fail or have other numbers.

  Args:
    names: of the settings.

  Raises:
    ValueError: names the setting, its variable, and what to do.
  """
  import jax  # here, because flags and records are read without JAX

  for name in names:
    accepted, why = ACCEPTED[name]
    found = getattr(jax.config, name, accepted[0])
    if found not in accepted:
      raise ValueError(
        f'{name}={found} (the variable {name.upper()}): {why}; unset it'
      )


def refused_by_jax(error: BaseException) -> bool:
  """Whether jax has raised an error for a setting that it cannot read."""
  trace = error.__traceback__
  while trace and trace.tb_next:
    trace = trace.tb_next
  return bool(trace) and (
    trace.tb_frame.f_globals.get('__name__') == 'jax._src.config'
  )
