"""States of environments as plain arrays by name, and back.

A step begins with what the last one left: not only the warm start, but also the
poses and rows of constraints at the new positions. Another program that
computed these again could round differently. So every array of a state is
saved, and steps from a loaded state equal those from the original to the bit.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

TASK = 'task'
"""The entry that names the environment: its characters, as uint8."""

Arrays = Mapping[str, Any]


def label(task: str) -> np.ndarray:
  """The entry `TASK` of an environment, `(characters,)`.

  Args:
    task: the environment's name.
  """
  return np.frombuffer(task.encode(), np.uint8)


def to_arrays(state: Any, task: str) -> dict[str, Any]:
  """All arrays of a state by their path.

  Args:
    state: of one environment or of many; its random keys, if it has any,
      become their data.
    task: the environment's name.

  Returns:
    Arrays that `numpy.savez` takes.
  """
  leaves = jax.tree_util.tree_leaves_with_path(state)
  return {TASK: label(task)} | {_name(p): _plain(x) for p, x in leaves}


def from_arrays(arrays: Arrays, like: Any, task: str) -> Any:
  """The inverse of `to_arrays`.

  Args:
    arrays: as `to_arrays` gives them, with any leading axes.
    like: shapes and types of the state of one environment.
    task: its name.

  Returns:
    The state, with the arrays' leading axes.

  Raises:
    ValueError: the arrays are of another task, names are missing or unknown,
      or shapes or types differ.
  """
  arrays = {
    name: x if hasattr(x, 'dtype') else np.asarray(x)
    for name, x in arrays.items()
  }
  _check_task(arrays, task)
  paths = jax.tree_util.tree_leaves_with_path(like)
  known = {_name(path): x for path, x in paths}
  missing = sorted(known.keys() - arrays.keys())
  unknown = sorted(arrays.keys() - known.keys() - {TASK})
  if missing or unknown:
    found = [
      f'{what} {", ".join(names)}'
      for what, names in (('without', missing), ('with unknown', unknown))
      if names
    ]
    raise ValueError(
      f'not a saved state of {task}: {"; ".join(found)}. Give all arrays of '
      'save_state, of the same versions of this package and of MuJoCo'
    )
  leading = {
    name: _leading(name, arrays[name], _shape(x)) for name, x in known.items()
  }
  first, axes = next(iter(leading.items()))
  for name, other in leading.items():
    if other != axes:
      raise ValueError(
        f'{name} is of states of shape {other}, and {first} of {axes}: all '
        'arrays of save_state need the same leading axes'
      )

  def leaf(path: Any, x: jax.ShapeDtypeStruct) -> jax.Array:
    name = _name(path)
    wanted = np.dtype(np.uint32) if _is_key(x) else x.dtype
    if arrays[name].dtype != wanted:
      raise ValueError(
        f'{name} is {arrays[name].dtype}, and {wanted} in {task}: save and '
        'load with the same jax_enable_x64, and keep the types of save_state'
      )
    array = jnp.asarray(arrays[name])
    if _is_key(x):
      return jax.random.wrap_key_data(array, impl=_impl(x))
    return array

  return jax.tree_util.tree_map_with_path(leaf, like)


def _check_task(arrays: Arrays, task: str) -> None:
  """Raises if the arrays say that they are of another task."""
  found = arrays.get(TASK)
  if found is None:
    raise ValueError(f'not a saved state of {task}: without {TASK}')
  try:
    found = np.asarray(found)
  except jax.errors.TracerArrayConversionError:
    return  # Its values are not known yet.
  if not found.size:
    return
  # `vmap` repeats the entry for each of its environments.
  names = np.unique(found.reshape(-1, found.shape[-1]), axis=0)
  others = [bytes(x.astype(np.uint8)).decode('utf-8', 'replace') for x in names]
  if others != [task]:
    raise ValueError(
      f'a saved state of {", ".join(others)}, not of {task}: load it into the '
      'environment that saved it'
    )


def _leading(name: str, array: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
  """The axes that an array has before those of one environment."""
  own = len(array.shape) - len(shape)
  if own < 0 or tuple(array.shape[own:]) != shape:
    raise ValueError(
      f'{name} is of shape {tuple(array.shape)}, which does not end with '
      f'{shape}: give it as save_state gave it'
    )
  return tuple(array.shape[:own])


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='.') or 'array'


def _is_key(x: Any) -> bool:
  return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _impl(like: jax.ShapeDtypeStruct) -> Any:
  """The implementation of keys of which only shape and type are known."""
  found = []
  jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), like)
  return found[0]


def _plain(x: Any) -> Any:
  return jax.random.key_data(x) if _is_key(x) else x


def _shape(x: Any) -> tuple[int, ...]:
  """The shape of a leaf as it is saved."""
  if not _is_key(x):
    return tuple(x.shape)
  return tuple(jax.eval_shape(jax.random.key_data, x).shape)
