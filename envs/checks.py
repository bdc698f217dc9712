"""Checks that an environment has the form that training relies on.

Everything follows from shapes and types: `reset` and `step` are traced, and
nothing is simulated.
"""

import os
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.envs import base, prng

_TRIES = 4  # how often the types of a state are widened at most
_NOT_THEIRS = (__file__, f'{os.path.dirname(jax.__file__)}{os.sep}')


def call(what: str, function: Callable[..., Any], *args: Any) -> Any:
  """Calls a function of another project.

  Args:
    what: names the function in the message.
    function: any.
    *args: its arguments.

  Returns:
    Its result.

  Raises:
    ValueError: the function raised an error, which the message gives in one
      line, with the place in the other project's code.
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


def positive_integer(name: str, attribute: str, value: Any) -> int:
  """Checks that an attribute is a whole number of at least 1.

  Args:
    name: of the environment.
    attribute: names it in the message.
    value: its value.

  Returns:
    The value as a Python integer.

  Raises:
    ValueError: it is not such a number.
  """
  number = isinstance(value, int | np.integer) and not isinstance(value, bool)
  if not number or value < 1:
    raise ValueError(
      f'{name}: {attribute} is {value!r}; it must be a whole number, at least 1'
    )
  return int(value)


def state(name: str, env: Any) -> Any:
  """The shapes and types that an environment's state has after every step.

  Args:
    name: of the environment.
    env: with `reset`, `step`, `action_size`.

  Returns:
    The state with a `jax.ShapeDtypeStruct` for each leaf. Where `step` returns
    another type than `reset`, it is the type to which JAX promotes the two.

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
  size = positive_integer(name, 'action_size', env.action_size)
  with prng.as_default():
    return _state(name, env, jax.ShapeDtypeStruct((size,), jnp.float32))


def _state(name: str, env: Any, action: Any) -> Any:
  """`state` of an environment that has the methods."""
  key = jax.eval_shape(prng.key, 0)
  first = call(f'{name}: reset', jax.eval_shape, env.reset, key)
  _check(f'{name}: reset', first)
  for _ in range(_TRIES):
    after = call(f'{name}: step', jax.eval_shape, env.step, first, action)
    _check(f'{name}: step', after)
    widened = _widened(name, first, after)
    if _types(widened) == _types(first):
      return widened
    first = widened
  raise ValueError(f'{name}: step returns other types than it is given')


def own(name: str, env: base.Env) -> None:
  """Checks an environment that has the interface `base.Env` already.

  Args:
    name: of the environment.
    env: any.

  Raises:
    ValueError: as `state`; or a step changes types, the observation is not a
      float32 vector of length `observation_size`, or the part that actor or
      critic sees is not within it.
  """
  positive_integer(name, 'episode_length', env.episode_length)
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
    ValueError: it is not such a vector.
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
  """Checks the fields of a state that training reads."""
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
  """The first state with its types promoted to hold those of the second."""
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
  """The type to which JAX promotes two types."""
  if a == b:
    return a
  return call(f'{name}: the type of {path}', jnp.result_type, a, b)


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
