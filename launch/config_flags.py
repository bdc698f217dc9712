"""Flags made of the fields of `Config`, which alone describes them."""

from typing import Any

from absl import flags

from mjx_crossq import config as config_lib
from mjx_crossq import parsing
from mjx_crossq.config import Config
from mjx_crossq.errors import ConfigError

_SET = flags.DEFINE_multi_string(
  'set', [], 'key=value for any field that --dry_run prints; repeatable'
)


def _define(name: str) -> Any:
  """The flag of a field of `Config`; None where it is not given."""
  field = config_lib.FIELDS[name]
  default = parsing.to_text(field.default)
  doc = f'{field.metadata["doc"]} ({default or "none"})'
  if config_lib.TYPES[name] is int:
    return flags.DEFINE_integer(name, None, doc)
  if config_lib.TYPES[name] is float:
    return flags.DEFINE_float(name, None, doc)
  if config_lib.TYPES[name] is bool:
    return flags.DEFINE_bool(name, None, doc)
  if choices := config_lib.choices(name):
    return flags.DEFINE_enum(name, None, list(choices), doc)
  if config_lib.TYPES[name] in (str, parsing.Number):
    return flags.DEFINE_string(name, None, doc)
  return flags.DEFINE_multi_string(name, None, doc)


_FIELDS = {
  name: _define(name)
  for name, field in config_lib.FIELDS.items()
  if field.metadata['flag']
}


def config(*, accelerator: bool, **more: Any) -> Config:
  """The preset changed by --set and by the flags that were given.

  Args:
    accelerator: whether the run is on a GPU or TPU.
    **more: fields that other flags give.

  Raises:
    ConfigError: a flag contradicts --set, or a value is refused.
  """
  changes = config_lib.parse_assignments(_SET.value)
  for name, flag in _FIELDS.items():
    if flag.value is None or name == 'preset':
      continue
    value = parsing.typed(name, flag.value, config_lib.TYPES[name])
    if changes.get(name, value) != value:
      raise ConfigError(
        f'--{name}={value} contradicts --set {name}={changes[name]}'
      )
    changes[name] = value
  changes |= more
  preset = _FIELDS['preset'].value or Config.preset
  return config_lib.from_preset(preset, accelerator=accelerator, **changes)
