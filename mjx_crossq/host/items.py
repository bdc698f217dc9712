"""The items of a checkpoint: flat dicts of arrays by their path in a tree."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from mjx_crossq.host import integrity
from mjx_crossq.learner.states import Network


@dataclasses.dataclass(frozen=True)
class Best:
  """The best policy of the evaluations so far.

  Attributes:
    step: its env step.
    score: its mean return over all seeds and episodes.
    policy: actors of all seeds, on the host.
  """

  step: int
  score: float
  policy: Network


def read_best(folder: Path) -> tuple[int, float]:
  """Env step and mean return of the best policy that a checkpoint holds."""
  text = (folder / integrity.METADATA).read_text(encoding='utf-8')
  found = json.loads(text)['custom_metadata']['best']
  return found['env_step'], found['return']


def read_item(folder: Path) -> dict[str, np.ndarray]:
  """The arrays of an item by their path, whatever its shapes.

  Args:
    folder: of the item, in that of a checkpoint.
  """
  handler: Any = ocp.StandardCheckpointHandler()
  try:
    metadata = handler.metadata(folder.resolve())
    like = {
      path: np.empty(x.shape, x.dtype) for path, x in metadata.tree.items()
    }
    args = ocp.args.StandardRestore(like)  # pyright: ignore
    return handler.restore(folder.resolve(), args=args)
  finally:
    handler.close()


def to_dict(tree: Any) -> dict[str, Any]:
  """The leaves of a tree by their path; orbax stores no empty arrays."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {_name(path): leaf for path, leaf in leaves if leaf.size}


def from_dict(stored: Mapping[str, Any], like: Any, start: str = '') -> Any:
  """The inverse of `to_dict`, for a tree like the one that was stored.

  Args:
    stored: arrays by path.
    like: a tree of that structure.
    start: what the paths begin with.
  """

  def leaf(path, x):
    return (
      stored[start + _name(path)] if x.size else jnp.zeros(x.shape, x.dtype)
    )

  return jax.tree_util.tree_map_with_path(leaf, like)


def _name(path: Any) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='.') or 'array'
