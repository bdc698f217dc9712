"""The hyper-parameters of an update that may differ between agents."""

from typing import Any, NamedTuple

from mjx_crossq.config import Config


class Hyper(NamedTuple):
  """Numbers that an update, or a new agent, takes as they are.

  Plain floats are constants of the compiled program. Arrays `()` are data of
  it, so that one program trains agents with different values (`vary.py`). The
  meanings are those of the fields of `Config` with these names.
  """

  critic_lr: Any
  actor_lr: Any
  alpha_lr: Any
  weight_decay: Any
  gamma: Any
  tau: Any
  init_alpha: Any
  target_entropy: Any


def of(config: Config) -> Hyper:
  """The values of a configuration, as floats."""
  return Hyper(**{name: getattr(config, name) for name in Hyper._fields})
