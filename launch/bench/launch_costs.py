"""What a launch and a trip of a loop cost on this device.

`launch.inspect` estimates a program's time from its launches and from the
conditions that the host reads, at assumed costs of each. These are measured
here by loops whose bodies do next to nothing: one of few launches, one of more,
and one whose number of trips follows from its data.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mjx_crossq.launch.bench import hlo, timing, work

TRIPS = 500
"""Of each loop."""
_FEW, _MANY = 8, 24
_SIZE = 256


def _body(count: int, x: jax.Array) -> jax.Array:
  """`count` operations that cannot be fused: each needs all of the last."""
  for _ in range(count):
    x = x / jnp.sum(x)
  return x


def _fixed(count: int) -> Any:
  return lambda x: jax.lax.fori_loop(0, TRIPS, lambda _, x: _body(count, x), x)


def _of_data(count: int) -> Any:
  def loop(x: jax.Array) -> jax.Array:
    # Whoever runs it does not know that it counts.
    def step(carry):
      x, trips = carry
      return _body(count, x), trips + 1 + 0 * x[0]

    start = x, jnp.zeros(())
    return jax.lax.while_loop(lambda carry: carry[1] < TRIPS, step, start)[0]

  return loop


def launches_of_a_trip(text: str) -> int:
  """Launches in the body of a program's only loop.

  Args:
    text: of the compiled program.

  Raises:
    ValueError: it has another number of loops.
  """
  module = hlo.parse(text)
  bodies = [
    instruction.calls('body')
    for computation in module.computations.values()
    for instruction in computation.values()
    if instruction.opcode == 'while'
  ]
  if len(bodies) != 1:
    raise ValueError(f'the program has {len(bodies)} loops and not one')
  return work.launches_within(module, bodies[0])


def measure(repeats: int) -> dict[str, float]:
  """Times the loops.

  Args:
    repeats: of each, of which the fastest counts.

  Returns:
    Microseconds: `us_per_launch`, `us_per_fixed_trip` and `us_per_data_trip`,
    the last two without the launches of the body; and `launches` of the bodies.
  """
  x = jnp.ones(_SIZE)
  loops = {'few': _fixed(_FEW), 'many': _fixed(_MANY), 'data': _of_data(_FEW)}
  compiled = {n: jax.jit(f).lower(x).compile() for n, f in loops.items()}
  launches = {
    name: launches_of_a_trip(program.as_text() or '')
    for name, program in compiled.items()
  }
  programs = {
    name: lambda program=program: jax.block_until_ready(program(x))
    for name, program in compiled.items()
  }
  timing.interleaved(programs, 1)
  times = timing.interleaved(programs, repeats)
  trip = {name: min(t.seconds) / TRIPS * 1e6 for name, t in times.items()}
  launch = (trip['many'] - trip['few']) / (launches['many'] - launches['few'])
  return {
    'us_per_launch': launch,
    'us_per_fixed_trip': trip['few'] - launches['few'] * launch,
    'us_per_data_trip': trip['data'] - launches['data'] * launch,
    **{f'launches_{name}': n for name, n in launches.items()},
  }
