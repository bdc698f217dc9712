"""Costs of constraint rows: their forces and second derivatives.

The solver minimises the cost of the smooth dynamics plus one of each row, or of
each cone of rows, that depends on the residual of the rows. The force is minus
its derivative. A row costs `stiffness / 2 * residual^2`

* everywhere, if it is an equality;
* where it is negative, if it is a limit, a contact without friction, or an edge
  of a pyramidal cone;
* up to a largest force, beyond which the cost is linear: dry friction.

The rows of a contact with an elliptic cone cost the same where the residual is
in the polar cone (the contact sticks), nothing in the cone (it is open), and
between them (it slides) what the distance to the cone costs.

Source: MuJoCo's documentation, "Computation", and `engine_core_constraint.c`
(`mj_constraintUpdate`) of MuJoCo 3.17.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jp
import numpy as np

from mjx_crossq.envs import runtime

with runtime.quiet():
  from mujoco.mjx._src.types import ConeType, DisableBit

_MINVAL = 1e-15
"""C's `mjMINVAL`."""


class _Zones(NamedTuple):
  """Where the residuals of cones are, after scaling that makes them circular.

  Attributes:
    side: tangential residuals, scaled, `(n, dim - 1)`.
    normal: normal residual, scaled, `(n,)`.
    length: of `side`, `(n,)`; 1 where it is 0.
    sticks: whether the force is that of independent rows, `(n,)`.
    slides: whether the force is on the cone, `(n,)`.
  """

  side: jax.Array
  normal: jax.Array
  length: jax.Array
  sticks: jax.Array
  slides: jax.Array


def normal_first(normal: jax.Array | float, tangents: jax.Array) -> jax.Array:
  """The values of contacts' rows.

  `jnp.insert` does the same by a scatter, which a GPU launches on its own.

  Args:
    normal: of the normal row, `(n,)` or one number for all.
    tangents: of the rows of friction, `(n, dim - 1)`.

  Returns:
    `(n, dim)`.
  """
  first = jp.broadcast_to(jp.asarray(normal, tangents.dtype), len(tangents))
  return jp.concatenate([first[:, None], tangents], axis=1)


@dataclasses.dataclass(frozen=True)
class Cones:
  """Contacts of `dim` rows each, the normal one first, one after the other.

  Attributes:
    first: index of the first row.
    stiffness: `(n, dim)`.
    friction: coefficients of friction, `(n, dim - 1)`.
    mu: the regularised coefficient of the cone, `(n,)`.
  """

  first: int
  stiffness: jax.Array
  friction: jax.Array
  mu: jax.Array

  def of(self, rows: jax.Array) -> jax.Array:
    """What belongs to these contacts: `(rows, ...)` to `(n, dim, ...)`."""
    n, dim = self.stiffness.shape
    part = rows[self.first : self.first + n * dim]
    return part.reshape(n, dim, *rows.shape[1:])

  def _zones(self, residual: jax.Array) -> _Zones:
    normal, side = residual[:, 0] * self.mu, residual[:, 1:] * self.friction
    length = jp.sqrt(jp.sum(side * side, axis=1))
    sticks = self.mu * normal + length <= 0
    slides = ~sticks & (normal < self.mu * length)
    return _Zones(side, normal, jp.where(length > 0, length, 1), sticks, slides)

  @property
  def _sliding(self) -> jax.Array:
    """Stiffness of the distance to the cone, `(n,)`."""
    square = self.mu * self.mu
    return self.stiffness[:, 0] / jp.maximum(square * (1 + square), _MINVAL)

  def force(self, residual: jax.Array) -> jax.Array:
    """The forces at residuals, both `(n, dim)`."""
    at = self._zones(residual)
    push = self._sliding * (self.mu * at.length - at.normal) * self.mu
    lean = -self.friction * at.side / at.length[:, None]
    sliding = push[:, None] * normal_first(1, lean)
    sticking = jp.where(at.sticks[:, None], -self.stiffness * residual, 0)
    return jp.where(at.slides[:, None], sliding, sticking)

  def curvature(self, residual: jax.Array) -> jax.Array:
    """Second derivatives of the cost at residuals, `(n, dim, dim)`."""
    at = self._zones(residual)
    dim = self.stiffness.shape[1]
    unit = at.side / at.length[:, None]
    ratio = (self.mu * at.normal / at.length)[:, None, None]
    tangent = ratio * unit[:, :, None] * unit[:, None, :]
    square = (self.mu * self.mu)[:, None, None]
    tangent += (square - ratio) * jp.eye(dim - 1, dtype=residual.dtype)
    cross = -self.mu[:, None] * unit
    upper = normal_first(1, cross)[:, None, :]
    lower = jp.concatenate([cross[:, :, None], tangent], axis=2)
    scale = normal_first(self.mu, self.friction)
    outer = scale[:, :, None] * scale[:, None, :] * self._sliding[:, None, None]
    sliding = outer * jp.concatenate([upper, lower], axis=1)
    weight = jp.where(at.sticks[:, None], self.stiffness, 0)
    sticking = weight[:, :, None] * jp.eye(dim, dtype=residual.dtype)
    return jp.where(at.slides[:, None, None], sliding, sticking)


@dataclasses.dataclass(frozen=True)
class RowCosts:
  """The costs of all rows of a state.

  Attributes:
    stiffness: of each row, `(rows,)`.
    equal: whether a row is an equality, `(rows,)`, known while tracing.
    dry: largest forces of the rows of dry friction, `(rows,)`, infinite for all
      others; `None` if there are none.
    cones: contacts with elliptic cones. Their rows are the last ones.
  """

  stiffness: jax.Array
  equal: np.ndarray
  dry: jax.Array | None
  cones: tuple[Cones, ...]

  @property
  def piecewise_quadratic(self) -> bool:
    """Whether rows only ever become active or inactive."""
    return self.dry is None and not self.cones

  def active(self, residual: jax.Array) -> jax.Array:
    """Whether the cost of a row is quadratic there, `(rows,)`.

    The rows of elliptic cones are told by the cones.
    """
    active = (residual < 0) | self.equal
    if self.dry is None:
      return active
    dry = jp.isfinite(self.dry)
    return jp.where(dry, jp.abs(self.stiffness * residual) < self.dry, active)

  def force(self, residual: jax.Array) -> jax.Array:
    """The forces at residuals, both `(rows,)`."""
    pull = -self.stiffness * residual
    force = jp.where((residual < 0) | self.equal, pull, 0)
    if self.dry is not None:
      sliding = jp.clip(pull, -self.dry, self.dry)
      force = jp.where(jp.isfinite(self.dry), sliding, force)
    if not self.cones:
      return force
    of_cones = [x.force(x.of(residual)).reshape(-1) for x in self.cones]
    return jp.concatenate([force[: self.cones[0].first], *of_cones])

  def hessian(self, residual: jax.Array, jacobian: jax.Array) -> jax.Array:
    """Second derivatives by the accelerations.

    Args:
      residual: `(rows,)`.
      jacobian: `(rows, nv)`.

    Returns:
      `(nv, nv)`.
    """
    weight = jp.where(self.active(residual), self.stiffness, 0)
    if not self.cones:
      return jacobian.T @ (weight[:, None] * jacobian)
    first = self.cones[0].first
    weighted = [weight[:first, None] * jacobian[:first]]
    for cones in self.cones:
      of_cones = cones.curvature(cones.of(residual)) @ cones.of(jacobian)
      weighted.append(of_cones.reshape(-1, jacobian.shape[1]))
    return jacobian.T @ jp.concatenate(weighted)


def of(model: Any, data: Any) -> RowCosts:
  """The costs of the rows that `rows.make_constraint` wrote.

  Args:
    model: an MJX model.
    data: data with rows of constraints.
  """
  impl = data._impl
  equal = np.arange(len(impl.efc_D)) < impl.ne  # Equalities are the first.
  has_dry = impl.nf and not model.opt.disableflags & DisableBit.FRICTIONLOSS
  dry = None
  if has_dry:
    is_dry = (np.arange(len(equal)) >= impl.ne) & (
      np.arange(len(equal)) < impl.ne + impl.nf
    )
    dry = jp.where(is_dry, impl.efc_frictionloss, jp.inf)
  cones = []
  if model.opt.cone == ConeType.ELLIPTIC:
    contact = impl.contact
    for dim in sorted(set(contact.dim[contact.dim > 1].tolist())):
      which = np.flatnonzero(contact.dim == dim)
      first = int(contact.efc_address[which[0]])
      count = len(which) * dim
      friction = contact.friction[which]
      cones.append(
        Cones(
          first,
          impl.efc_D[first : first + count].reshape(-1, dim),
          friction[:, : dim - 1],
          friction[:, 0] / jp.sqrt(model.opt.impratio),
        )
      )
  return RowCosts(impl.efc_D, equal, dry, tuple(cones))
