"""Whether an environment is what training relies on, from its shapes alone."""

import os
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.envs import base, prng

_TRIES = 4  # types of a state that a step changes are widened so often
_NOT_THEIRS = (__file__, f'{os.path.dirname(jax.__file__)}{os.sep}')


def called(what: str, function: Callable[..., Any], *args: Any) -> Any:
  """The result of somebody else's function.

  Args:
    what: the function in the message.
    function: any.
    *args: of the call.

  Raises:
    ValueError: it raised anything; in one line, with the place.
  """
  try:
    return function(*args)
  except (Exception, SystemExit) as error:
    line = next(iter(str(error).splitlines()), '')
    where = [
      f' ({frame.filename}:{frame.lineno})'
      for frame in traceback.extract_tb(error.__traceback__)
      if not frame.filename.startswith(_NOT_THEIRS)
    ]
    raise ValueError(
      f'{what} fails: {type(error).__name__}: {line}{"".join(where[-1:])}'
    ) from None


def whole(name: str, attribute: str, value: Any) -> int:
  """An attribute that is a whole number, at least 1.

  Args:
    name: of the environment.
    attribute: in the message.
    value: its value.

  Raises:
    ValueError: it is none.
  """
  number = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not number or value < 1:
    raise ValueError(
      f'{name}: {attribute} is {value!r}; it must be a whole number, at least 1'
    )
  return int(value)


def state(name: str, env: Any) -> Any:
  """The shapes and types of an environment's state, which its steps keep.

  Args:
    name: of the environment.
    env: with `reset`, `step`, `action_size`.

  Returns:
    The state with a `jax.ShapeDtypeStruct` for each leaf. Where `step` returns
    another type than `reset`, it is one that holds both.

  Raises:
    ValueError: a method is missing or fails, a shape or type is not what
      training needs, or a step returns a state of another form.
  """
  for method in ('reset', 'step', 'action_size'):
    if not hasattr(env, method):
      raise ValueError(
        f'{name} must be an environment as brax has them, but the '
        f'{type(env).__name__} has no {method!r}'
      )
  size = whole(name, 'action_size', env.action_size)
  with prng.as_default():
    return _state(name, env, jax.ShapeDtypeStruct((size,), jnp.float32))


def _state(name: str, env: Any, action: Any) -> Any:
  """`state` of an environment that has the methods."""
  key = jax.eval_shape(prng.key, 0)
  first = called(f'{name}: reset', jax.eval_shape, env.reset, key)
  _check(f'{name}: reset', first)
  for _ in range(_TRIES):
    after = called(f'{name}: step', jax.eval_shape, env.step, first, action)
    _check(f'{name}: step', after)
    widened = _widened(name, first, after)
    if _types(widened) == _types(first):
      return widened
    first = widened
  raise ValueError(f'{name}: step returns other types than it is given')


def own(name: str, env: base.Env) -> None:
  """Checks an environment with our interface; nothing is changed for it.

  Args:
    name: of the environment.
    env: any.

  Raises:
    ValueError: as `state`; or types change, the observation is no float32
      vector of `observation_size`, or a part of it is not within it.
  """
  whole(name, 'episode_length', env.episode_length)
  obs, size = state(name, env).obs, env.observation_size
  if not isinstance(size, int) or not _is(obs, (size,), np.float32):
    raise ValueError(
      f'{name}: observation_size is {size!r} and the observation '
      f'{_text(obs)}; it must be a float32 vector of this length'
    )
  for part in ('actor_observation', 'critic_observation'):
    bounds = getattr(env, part)
    if bounds is not None and not 0 <= bounds[0] < bounds[1] <= size:
      raise ValueError(
        f'{name}: {part} is {bounds}; it is the first entry and the one after '
        f'the last, of {size}'
      )
  first = jax.eval_shape(env.reset, jax.eval_shape(prng.key, 0))
  action = jax.ShapeDtypeStruct((env.action_size,), jnp.float32)
  after = _leaves(jax.eval_shape(env.step, first, action))
  if changed := [
    path for path, x in _leaves(first).items() if x.dtype != after[path].dtype
  ]:
    raise ValueError(
      f'{name}: step returns another type than reset for {", ".join(changed)}'
    )


def vector(name: str, obs: Any) -> int:
  """The length of an observation that is a vector of real numbers.

  Args:
    name: of the environment.
    obs: shapes.

  Raises:
    ValueError: it is none.
  """
  shape = getattr(obs, 'shape', ())
  if len(shape) != 1 or not shape[0] or not _real(obs):
    raise ValueError(
      f'{name} observes {_text(obs)}; only vectors are supported, or a '
      "dictionary of 'state' and 'privileged_state': wrap it in a function of "
      'yours, --task=module:function'
    )
  return shape[0]


def _check(what: str, state: Any) -> None:
  """Reads what training reads of a state."""
  for field in ('obs', 'reward', 'done'):
    if not hasattr(state, field):
      raise ValueError(
        f'{what} returns a {type(state).__name__} without {field!r}; it must '
        "be a state as brax has them, with 'obs', 'reward' and 'done'"
      )
  for field in ('reward', 'done'):
    value = getattr(state, field)
    if getattr(value, 'shape', None) != () or not _real(value):
      raise ValueError(
        f'{what} returns a {field} that is {_text(value)}; it must be one '
        'number, of shape ()'
      )


def _widened(name: str, first: Any, after: Any) -> Any:
  """The first state with types that hold those of the second, too."""
  a, b = _leaves(first), _leaves(after)
  if added := sorted(a.keys() ^ b.keys()):
    raise ValueError(
      f'{name}: only one of reset and step returns {", ".join(added)}; both '
      'must return states of the same form'
    )
  for path, x in a.items():
    if x.shape != b[path].shape:
      raise ValueError(
        f'{name}: {path} has the shape {x.shape} after reset and '
        f'{b[path].shape} after step; it must stay the same'
      )
  return jax.tree.unflatten(
    jax.tree.structure(first),
    [
      jax.ShapeDtypeStruct(x.shape, _common(name, path, x.dtype, b[path].dtype))
      for path, x in a.items()
    ],
  )


def _common(name: str, path: str, a: Any, b: Any) -> Any:
  """The type that holds two."""
  if a == b:
    return a
  return called(f'{name}: the type of {path}', jnp.result_type, a, b)


def _leaves(tree: Any) -> dict[str, Any]:
  return {
    jax.tree_util.keystr(path): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _types(tree: Any) -> list[Any]:
  return [leaf.dtype for leaf in jax.tree.leaves(tree)]


def _real(value: Any) -> bool:
  dtype = getattr(value, 'dtype', None)
  return dtype is not None and any(
    jnp.issubdtype(dtype, kind) for kind in (np.floating, np.integer, np.bool_)
  )


def _is(value: Any, shape: tuple[int, ...], dtype: Any) -> bool:
  return getattr(value, 'shape', None) == shape and value.dtype == dtype


def _text(tree: Any) -> str:
  """Shapes and types for a message."""
  shown = jax.tree.map(lambda x: f'{x.dtype}{list(x.shape)}', tree)
  return str(shown).replace("'", '') if jax.tree.leaves(tree) else repr(tree)
