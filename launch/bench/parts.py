"""How often a training program runs each of its instructions, and for what.

The walk begins at the loop over decisions. A loop multiplies by its trips, a
branch by how often it is taken. Loops of which XLA knows no number of trips are
the solver's, for which the caller says how many iterations to assume, and any
other, for which one is assumed and which the report names.

The part of an instruction follows from the named scopes of `device/trainer.py`
in JAX's path to it, from the `jit` of `envs`' physics step and from the
solver's loop; XLA's own instructions, which have no path, belong to the loop or
branch in which they stand.
"""

import collections
import dataclasses
import re
from collections.abc import Iterator
from pathlib import PurePath

from mjx_crossq.launch.bench import trips as trips_lib
from mjx_crossq.launch.bench import work
from mjx_crossq.launch.bench.hlo import Frame, Instruction, Module

PHYSICS, SOLVER = 'physics step', 'solver iteration'
CRITIC, ACTOR = 'update: critic', 'update: actor'
BEGIN, REST = 'episode begin', 'rest'
PARTS = (
  PHYSICS,
  SOLVER,
  'environment',
  BEGIN,
  'acting',
  'replay',
  CRITIC,
  ACTOR,
  REST,
)
"""In the order of the report. 'environment' is what a control step does beside
its physics: observation, reward, episodes' statistics."""

_SCOPES = ('acting', 'replay', 'environment')
_PHYSICS_STEP = re.compile(r'jit\((?:step|_step|control_step)\)')
_HELPERS = {'math', 'scan', 'support', 'tree', 'dataclasses', 'api'}
"""Files of MJX, JAX and `envs` whose functions serve all others."""


@dataclasses.dataclass(frozen=True)
class Frequencies:
  """What the program's text does not say.

  Attributes:
    updates: of a decision that has any.
    policy_delay: updates per update of the actor.
    begins: how often a decision begins episodes.
    physics_steps: per decision.
    solver_iterations: assumed where the number depends on the data.
    update_every: decisions to each that has updates.
  """

  updates: int
  policy_delay: int
  begins: float
  physics_steps: int
  solver_iterations: float
  update_every: int = 1

  @property
  def updates_per_decision(self) -> float:
    """The mean over all decisions."""
    return self.updates / self.update_every


@dataclasses.dataclass(frozen=True)
class Place:
  """Where an instruction stands.

  Attributes:
    times: how often it runs a decision.
    part: of `PARTS`.
    updating: whether it belongs to the updates, replay included.
    solving: whether it belongs to an iteration of the solver.
  """

  times: float = 1.0
  part: str = REST
  updating: bool = False
  solving: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
  """An instruction that is launched, or a decision that control depends on.

  Attributes:
    instruction: the instruction.
    computation: name of its computation.
    place: where it stands.
    control: whether it is a loop's condition or a branch.
  """

  instruction: Instruction
  computation: str
  place: Place
  control: bool = False


class Walk:
  """A walk over what a decision runs.

  Attributes:
    module: the program.
    frequencies: what its text does not say.
    unknown: names of loops whose number of trips was assumed to be 1.
    solver_iterations: that a decision's physics runs.
  """

  def __init__(self, module: Module, frequencies: Frequencies):
    """Walks nothing yet.

    Args:
      module: the program.
      frequencies: what its text does not say.
    """
    self.module = module
    self.frequencies = frequencies
    self.unknown: list[str] = []
    self.solver_iterations = 0.0

  def decision(self) -> Iterator[Run]:
    """What one decision of all seeds runs, after the warm-up.

    Raises:
      ValueError: the program has no loop over decisions.
    """
    found = self._outermost(self.module.entry)
    if found is None:
      raise ValueError('the program has no loop whose length is data')
    loop, where = found
    yield from self._loop(loop, where, Place(), once=True)

  def around(self) -> Iterator[Run]:
    """What a chunk runs once, before and after the loop over decisions."""
    yield from self._entry(self.module.entry)

  def _entry(self, name: str) -> Iterator[Run]:
    for instruction in self.module.computations[name].values():
      if instruction.opcode == 'call':
        yield from self._entry(instruction.calls('to_apply'))
      elif work.launches(instruction):
        yield Run(instruction, name, Place())

  def _outermost(self, name: str) -> tuple[Instruction, str] | None:
    """The heaviest loop of unknown length of a computation, and where it is."""
    loops = []
    for instruction in self.module.computations[name].values():
      if instruction.opcode == 'call':
        loops.append(self._outermost(instruction.calls('to_apply')))
      elif (
        instruction.opcode == 'while'
        and trips_lib.of(self.module, name, instruction) is None
      ):
        loops.append((instruction, name))
    return max(
      filter(None, loops),
      key=lambda found: work.launches_within(
        self.module, found[0].calls('body')
      ),
      default=None,
    )

  def _computation(self, name: str, place: Place) -> Iterator[Run]:
    for instruction in self.module.computations[name].values():
      here = self._place(instruction, place)
      match instruction.opcode:
        case 'while':
          yield from self._loop(instruction, name, here)
        case 'conditional':
          yield from self._branches(instruction, name, here)
        case 'call':
          yield from self._computation(instruction.calls('to_apply'), here)
        case 'async-start':
          yield from self._computation(instruction.calls('calls'), here)
        case _ if work.launches(instruction):
          yield Run(instruction, name, here)

  def _loop(
    self, loop: Instruction, name: str, place: Place, once: bool = False
  ) -> Iterator[Run]:
    """A loop: its body, and its condition where a host must read it."""
    trips: float | None = trips_lib.of(self.module, name, loop)
    data_decide = trips is None
    part, checks = place.part, 0.0
    trips = 1 if once else trips
    solver = not place.solving and self._is_solver(loop)
    if trips is None and solver:
      trips = self.frequencies.solver_iterations
    elif trips is None and self._is_branch(loop, place):
      trips, checks = self._chance(loop, place), 1.0
      if place.updating and self._has_actor(loop.calls('body')):
        part = ACTOR
    elif trips is None:
      trips = 1
      self.unknown.append(self.describe(loop))
    inside = dataclasses.replace(place, times=place.times * trips, part=part)
    if solver and place.part == PHYSICS:
      self.solver_iterations += inside.times
      inside = dataclasses.replace(inside, part=SOLVER, solving=True)
    if inside.times:
      yield from self._computation(loop.calls('body'), inside)
    if data_decide:
      times = inside.times + checks * place.times
      checked = dataclasses.replace(inside, times=times)
      yield from self._computation(loop.calls('condition'), checked)
      yield Run(loop, name, checked, control=True)

  def _branches(
    self, instruction: Instruction, name: str, place: Place
  ) -> Iterator[Run]:
    """A condition, of which the heaviest branch counts."""
    yield Run(instruction, name, place, control=True)
    branch = max(
      instruction.branches,
      key=lambda branch: work.launches_within(self.module, branch),
    )
    yield from self._computation(branch, place)

  def _is_branch(self, loop: Instruction, place: Place) -> bool:
    """Whether a loop is a branch (`learner/branches.py`): one trip or none.

    That of `Rollout.begin` has nearly always one trip or none, too.
    """
    stack = self.module.stack(loop)[:3]
    if place.part == BEGIN and stack and stack[0].function == 'Rollout.begin':
      return True
    return any(PurePath(frame.file).stem == 'branches' for frame in stack)

  def _chance(self, loop: Instruction, place: Place) -> float:
    """How often a branch is taken."""
    known = self.frequencies
    stack = self.module.stack(loop)
    functions = {frame.function for frame in stack}
    if place.part == BEGIN:
      return known.begins
    if functions & {'freeze_broken', 'Resets.apply'}:
      return 0.0
    if place.updating and self._has_actor(loop.calls('body')):
      return known.updates % known.policy_delay / known.policy_delay
    callers = [f for f in stack if PurePath(f.file).stem != 'branches']
    if callers and callers[0].function == 'Trainer.iterate':
      return 1 / known.update_every
    return 1.0

  def _has_actor(self, name: str) -> bool:
    return any(
      frame.function.endswith('update_actor')
      for instruction in self.module.computations[name].values()
      for frame in self.module.stack(instruction)
    )

  def _is_solver(self, loop: Instruction) -> bool:
    """Whether a loop stands in a solver's file or function."""
    return any(
      'solve' in PurePath(frame.file).stem + frame.function
      for frame in self.module.stack(loop)[:3]
    ) or 'solver' in _words(loop.op_name)

  def _place(self, instruction: Instruction, place: Place) -> Place:
    """Where an instruction of a computation at a place stands."""
    words = _words(instruction.op_name)
    if place.solving or place.part == BEGIN:
      return place
    if 'begin' in words and place.part == REST:
      return dataclasses.replace(place, part=BEGIN)
    if place.updating or 'update' in words:
      part = place.part if place.updating else CRITIC
      if 'replay' in words:
        part = 'replay'
      elif any(
        frame.function.endswith('update_actor')
        for frame in self.module.stack(instruction)
      ):
        part = ACTOR
      return dataclasses.replace(place, part=part, updating=True)
    if _PHYSICS_STEP.search(instruction.op_name):
      return dataclasses.replace(place, part=PHYSICS)
    for scope in _SCOPES:
      if scope in words and place.part != PHYSICS:
        return dataclasses.replace(place, part=scope)
    return place

  def function(self, instruction: Instruction) -> str:
    """The Python function that an instruction comes from, and its caller.

    Args:
      instruction: of the program.

    Returns:
      The innermost function, behind the innermost one that is no helper of
      MJX's or JAX's; XLA and the operation where it comes from neither.
    """
    stack = self.module.stack(instruction)
    if not stack:
      return f'XLA {instruction.opcode}'
    stages = [f for f in stack if PurePath(f.file).stem not in _HELPERS]
    names = dict.fromkeys(map(_named, (*stages[:1], stack[0])))
    return ' > '.join(names)

  def describe(self, instruction: Instruction) -> str:
    """Names an instruction for a report."""
    return f'{instruction.name} ({self.function(instruction)})'


def _named(frame: Frame) -> str:
  function = re.sub(r'\.<locals>', '', frame.function)
  return f'{PurePath(frame.file).stem}.{function}'


def _words(op_name: str) -> set[str]:
  """The words of a path: scopes, primitives and transformations."""
  return set(re.findall(r'\w+', op_name))


@dataclasses.dataclass
class Counts:
  """What runs, per decision.

  Attributes:
    launches: operations that are started, library calls and copies included.
    library_calls: calls of a library.
    copies: operations that only copy.
    control: conditions of loops and branches.
    bytes: read and written, by the shapes.
    flops: of matrix products, by the shapes.
  """

  launches: float = 0.0
  library_calls: float = 0.0
  copies: float = 0.0
  control: float = 0.0
  bytes: float = 0.0
  flops: float = 0.0

  def add(self, module: Module, run: Run) -> None:
    """Adds an instruction as often as it runs."""
    times, instruction = run.place.times, run.instruction
    if run.control:
      self.control += times
      return
    where = module.computations[run.computation]
    self.launches += times
    self.library_calls += times * work.is_library_call(instruction)
    self.copies += times * work.is_copy(module, instruction)
    self.bytes += times * work.moved(module, where, instruction)
    self.flops += times * work.flops(module, where, instruction)


def by_part(module: Module, runs: list[Run]) -> dict[str, Counts]:
  """Counts of each part, in the order of `PARTS`."""
  counts = {part: Counts() for part in PARTS}
  for run in runs:
    counts[run.place.part].add(module, run)
  return counts


def by_function(walk: Walk, runs: list[Run]) -> list[tuple[str, str, float]]:
  """Part, function and launches per decision, the most first."""
  found: collections.Counter[tuple[str, str]] = collections.Counter()
  for run in runs:
    if not run.control:
      key = run.place.part, walk.function(run.instruction)
      found[key] += run.place.times  # pyright: ignore
  return [(part, name, n) for (part, name), n in found.most_common()]
