"""A ring buffer of transitions on the device, written in place.

One transition is one row of a float32 matrix, so that adding is a single
`dynamic_update_slice` and sampling a single gather. The position of the next
row and the number of filled rows follow from the iteration counter alone. The
counter is the same for all seeds, so that `vmap` does not batch the position: a
batched position would turn the write in place into a scatter.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq.learner.states import Transition


@dataclasses.dataclass(frozen=True)
class Replay:
  """The functions of a ring buffer; its contents are `(rows, row_size)`.

  Attributes:
    rows: transitions it holds, a multiple of `rows_per_add`.
    rows_per_add: transitions added at once (environments of one seed).
    observation_size: length of an observation.
    action_size: length of an action.
    columns: number of which `row_size` is a multiple; zeros fill the rows.
    first: adds whose transitions the buffer begins with (`Runner.init`).
  """

  rows: int
  rows_per_add: int
  observation_size: int
  action_size: int
  columns: int = 1
  first: int = 0

  def __post_init__(self):
    """Refuses sizes with which a write would run over the end."""
    if self.rows < 1 or self.rows % self.rows_per_add:
      raise ValueError(
        f'rows={self.rows} must be a positive multiple of '
        f'rows_per_add={self.rows_per_add}'
      )

  @property
  def row_size(self) -> int:
    """Length of a row."""
    return -(-self.values // self.columns) * self.columns

  @property
  def values(self) -> int:
    """Numbers in a row: s, s', a, reward and mask."""
    return 2 * self.observation_size + self.action_size + 2

  def init(self) -> jax.Array:
    """An empty buffer, `(rows, row_size)`."""
    return jnp.zeros((self.rows, self.row_size), jnp.float32)

  def add(
    self, buffer: jax.Array, transitions: Transition, adds: jax.Array
  ) -> jax.Array:
    """Writes `rows_per_add` transitions over the oldest ones.

    Args:
      buffer: `(rows, row_size)`; donate it, or carry it in a loop.
      transitions: leaves `(rows_per_add, ...)`.
      adds: how often `add` was called before, `()`.

    Returns:
      The buffer.
    """
    rows = self.pack(transitions)
    return jax.lax.dynamic_update_slice(buffer, rows, (self._position(adds), 0))

  def pack(self, transitions: Transition) -> jax.Array:
    """Transitions with leaves `(n, ...)` as rows, `(n, row_size)`."""
    t = transitions
    parts = [t.obs, t.next_obs, t.action, t.reward[:, None], t.mask[:, None]]
    if self.row_size > self.values:
      shape = (len(t.reward), self.row_size - self.values)
      parts.append(jnp.zeros(shape, jnp.float32))
    return jnp.concatenate(parts, axis=1)

  def in_order(
    self, buffer: np.ndarray, adds: int
  ) -> tuple[Transition, np.ndarray]:
    """What the buffer holds, from the oldest on, on the host.

    Args:
      buffer: `(rows, row_size)`.
      adds: how often `add` was called before.

    Returns:
      Transitions with leaves `(writes, rows_per_add, ...)`, and the index of
      each write, `(writes,)`: negative for those that the buffer began with.
    """
    capacity = self.rows // self.rows_per_add
    end = adds + self.first
    writes = np.arange(max(0, end - capacity), end)
    blocks = buffer.reshape(capacity, self.rows_per_add, -1)[writes % capacity]
    split = self._split(jnp.asarray(blocks.reshape(-1, self.row_size)))
    shape = len(writes), self.rows_per_add
    return (
      jax.tree.map(
        lambda x: np.asarray(x).reshape(*shape, *x.shape[1:]), split
      ),
      writes - self.first,
    )

  def previous(self, buffer: jax.Array, adds: jax.Array) -> Transition:
    """The transitions that the last `add` wrote.

    Args:
      buffer: `(rows, row_size)`.
      adds: how often `add` was called before; at 0 the result is arbitrary.

    Returns:
      Transitions with leaves `(rows_per_add, ...)`.
    """
    size = (self.rows_per_add, self.row_size)
    position = (self._position(adds - 1), 0)
    return self._split(jax.lax.dynamic_slice(buffer, position, size))

  def sample(
    self, buffer: jax.Array, key: jax.Array, batch_size: int, adds: jax.Array
  ) -> Transition:
    """Draws transitions uniformly, with replacement, from the written rows.

    Args:
      buffer: `(rows, row_size)`.
      key: randomness.
      batch_size: transitions to draw.
      adds: how often `add` was called before; at least 1.

    Returns:
      Transitions with leaves `(batch_size, ...)`.
    """
    writes = jnp.minimum(self._all(adds), self.rows // self.rows_per_add)
    index = jax.random.randint(
      key, (batch_size,), 0, writes * self.rows_per_add
    )
    return self._split(jnp.take(buffer, index, axis=0, mode='clip'))

  def _position(self, adds: jax.Array) -> jax.Array:
    """The first row that the next `add` writes, `()`."""
    adds = self._all(adds)
    return adds % (self.rows // self.rows_per_add) * self.rows_per_add

  def _all(self, adds: jax.Array) -> jax.Array:
    """The adds of this run and those that the buffer began with, `()`."""
    return adds + self.first if self.first else adds

  def _split(self, rows: jax.Array) -> Transition:
    n, a = self.observation_size, self.action_size
    obs, next_obs, action, reward, mask = jnp.split(
      rows, (n, 2 * n, 2 * n + a, 2 * n + a + 1), axis=1
    )
    return Transition(obs, action, reward[:, 0], mask[:, 0], next_obs)
