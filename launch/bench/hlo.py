"""Reads the text of a program that XLA has optimised and scheduled.

The text is what `compiled.as_text()` gives: tables of the Python functions that
the operations come from, then computations, one instruction a line:

    %name = f32[10,8]{1,0} opcode(%operand, ...), key=value, metadata={...}

Only what is needed to count is kept. The grammar is XLA's
(https://openxla.org/xla/operation_semantics gives the operations).
"""

import dataclasses
import functools
import math
import re

# Bits of an element by type; what is not here (token, opaque) has no size.
_BITS = {
  'pred': 8,
  **{f'{kind}{bits}': bits for kind in 'su' for bits in (2, 4, 8, 16, 32, 64)},
  **{'f16': 16, 'bf16': 16, 'f32': 32, 'f64': 64, 'c64': 64, 'c128': 128},
}
_ARRAY = re.compile(r'([a-z]+[0-9]*[a-z0-9]*)\[([0-9,]*)\]')
_COMMENT = re.compile(r'/\*.*?\*/')
_HEAD = re.compile(r'(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$')
_NAME = re.compile(r'%?([\w.\-]+)(?=[,)]|$)')
_CALLED = re.compile(
  r'\b(?:calls|to_apply|body|condition|true_computation|false_computation|'
  r'async_computation)=%?([\w.\-]+)'
)
_TABLES = ('FileNames', 'FunctionNames', 'FileLocations', 'StackFrames')


@dataclasses.dataclass(frozen=True)
class Array:
  """The type of an array.

  Attributes:
    kind: such as 'f32'.
    shape: its sizes.
  """

  kind: str
  shape: tuple[int, ...]

  @property
  def size(self) -> int:
    """Number of elements."""
    return math.prod(self.shape)

  @property
  def bytes(self) -> int:
    """Bytes without a layout's padding."""
    bits = _BITS.get(self.kind, 8 if self.kind.startswith('f8') else 0)
    return self.size * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One operation of a computation.

  Attributes:
    name: unique within its computation.
    opcode: such as 'fusion'.
    results: the arrays that it gives; several for a tuple.
    operands: names of instructions of the same computation.
    attributes: the rest of the line.
    root: whether its result is the computation's.
  """

  name: str
  opcode: str
  results: tuple[Array, ...]
  operands: tuple[str, ...]
  attributes: str
  root: bool = False

  @functools.cached_property
  def op_name(self) -> str:
    """JAX's path to it, through transformations and named scopes."""
    return self._text(r'op_name="((?:[^"\\]|\\.)*)"')

  @functools.cached_property
  def frame(self) -> int:
    """Index of the Python stack that it comes from; 0 where there is none."""
    return int(self._text(r'stack_frame_id=(\d+)') or 0)

  @property
  def target(self) -> str:
    """What a custom call calls."""
    return self._text(r'custom_call_target="([^"]*)"')

  @property
  def trips(self) -> int | None:
    """How often a loop runs, where XLA knows."""
    text = self._text(r'"known_trip_count":\{"n":"(\d+)"')
    return int(text) if text else None

  def calls(self, key: str) -> str:
    """The computation that an attribute names; '' where there is none."""
    return self._text(rf'\b{key}=%?([\w.\-]+)')

  @property
  def branches(self) -> tuple[str, ...]:
    """The computations of a conditional."""
    text = self._text(r'branch_computations=\{([^}]*)\}')
    if text:
      return tuple(name.strip().lstrip('%') for name in text.split(','))
    keys = ('true_computation', 'false_computation')
    return tuple(filter(None, map(self.calls, keys)))

  @property
  def bytes(self) -> int:
    """Bytes of all results."""
    return sum(array.bytes for array in self.results)

  def _text(self, pattern: str) -> str:
    match = re.search(pattern, self.attributes)
    return match[1] if match else ''


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Frame:
  """One Python function of a stack.

  Attributes:
    file: path of its file.
    function: its qualified name.
  """

  file: str
  function: str


@dataclasses.dataclass(frozen=True)
class Module:
  """A program.

  Attributes:
    computations: by name, each with its instructions by name and in order.
    entry: name of the one that is run.
    stacks: Python functions by `Instruction.frame`, the innermost first.
  """

  computations: dict[str, Computation]
  entry: str
  stacks: dict[int, tuple[Frame, ...]]

  @functools.cached_property
  def callers(self) -> dict[str, tuple[str, Instruction, str]]:
    """What runs each computation of a loop, a branch or a call.

    The name of its computation, the instruction, and the name of the operand
    that is the parameter.
    """
    found = {}
    for name, computation in self.computations.items():
      for instruction in computation.values():
        if instruction.opcode in ('while', 'call'):
          for key in ('body', 'condition', 'to_apply'):
            if instruction.calls(key) and len(instruction.operands) == 1:
              operand = instruction.operands[0]
              found[instruction.calls(key)] = name, instruction, operand
        elif instruction.opcode == 'conditional':
          pairs = zip(
            instruction.branches, instruction.operands[1:], strict=False
          )
          found |= {b: (name, instruction, operand) for b, operand in pairs}
    return found

  def stack(self, instruction: Instruction) -> tuple[Frame, ...]:
    """The Python functions that an instruction comes from, innermost first."""
    return self.stacks.get(instruction.frame, ())


def parse(text: str) -> Module:
  """Reads a program.

  Args:
    text: of `compiled.as_text()`.

  Raises:
    ValueError: it has no entry computation.
  """
  computations: dict[str, Computation] = {}
  tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
  entry, current, table = '', None, None
  for line in text.splitlines():
    if current is None:
      if line in tables:
        table = tables[line]
      elif line.endswith('{') and (head := _HEAD.match(line)):
        current = computations.setdefault(head[2], {})
        entry = head[2] if head[1] else entry
      elif table is not None and (row := re.match(r'(\d+) (.*)', line)):
        table[int(row[1])] = row[2]
    elif line.startswith('}'):
      current = None
    elif ' = ' in line:
      instruction = _instruction(line)
      current[instruction.name] = instruction
  if not entry:
    raise ValueError('the text is no program of XLA: it has no entry')
  return Module(computations, entry, _stacks(tables))


def _instruction(line: str) -> Instruction:
  """Reads a line of a computation."""
  line = line.strip()
  if '/*' in line:
    line = _COMMENT.sub('', line)
  left, right = line.split(' = ', 1)
  end = _closing(right, 0) if right[0] == '(' else right.index(' ')
  types, rest = right[:end], right[end:].strip()
  opcode = rest[: rest.index('(')]
  end = _closing(rest, len(opcode))
  inside = rest[len(opcode) + 1 : end - 1]
  operands = () if opcode in ('constant', 'parameter') else _operands(inside)
  # What others have no name for stands where they have operands.
  kept = ''
  if opcode == 'parameter':
    kept = f'number={inside}, '
  elif opcode == 'constant' and len(inside) < 20:
    kept = f'value={inside}, '
  return Instruction(
    name=left.removeprefix('ROOT ').lstrip('%'),
    opcode=opcode.strip(),
    results=_arrays(types),
    operands=operands,
    attributes=kept + rest[end:].lstrip(', '),
    root=left.startswith('ROOT '),
  )


def _arrays(types: str) -> tuple[Array, ...]:
  """The arrays of a type; layouts, which are in braces, are left out."""
  types = re.sub(r'\{[^}]*\}', '', types)
  return tuple(
    Array(kind, tuple(int(n) for n in sizes.split(',') if n))
    for kind, sizes in _ARRAY.findall(types)
  )


def _operands(text: str) -> tuple[str, ...]:
  """Names of operands; each may stand behind its type."""
  if '{' in text:
    text = re.sub(r'\{[^}]*\}', '', text)
  text = re.sub(r'\[[^\]]*\]', '', text)
  return tuple(_NAME.findall(text))


def _closing(text: str, start: int) -> int:
  """Where the parenthesis that opens at `start` is closed, and one further."""
  depth = 0
  for match in re.finditer(r'[()]', text[start:]):
    depth += 1 if match[0] == '(' else -1
    if not depth:
      return start + match.end()
  raise ValueError(f'a parenthesis is not closed in: {text[:80]}')


def _stacks(tables: dict[str, dict[int, str]]) -> dict[int, tuple[Frame, ...]]:
  """The stacks of Python functions by index."""

  def field(text, name):
    match = re.search(rf'\b{name}=(\d+)', text)
    return int(match[1]) if match else 0

  frames, parents = {}, {}
  for index, text in tables['StackFrames'].items():
    location = tables['FileLocations'].get(field(text, 'file_location_id'), '')
    frames[index] = Frame(
      *(
        tables[table].get(field(location, key), '').strip('"')
        for table, key in (
          ('FileNames', 'file_name_id'),
          ('FunctionNames', 'function_name_id'),
        )
      )
    )
    parents[index] = field(text, 'parent_frame_id')
  # Versions of XLA that count frames from 0 inside print them from 1 and write
  # the parent one too high: the first frame is then its own parent.
  shift = int(any(index == parent for index, parent in parents.items()))
  stacks = {}
  for index in frames:
    stack, at = [], index
    while at in frames and len(stack) < len(frames):
      stack.append(frames[at])
      at = parents[at] - shift
    stacks[index] = tuple(stack)
  return stacks
