"""What an instruction of a compiled program computes and moves.

Figures come from the shapes in the program's text (`hlo.py`), because XLA gives
its own for some targets only, and for whole programs. Arithmetic is that of
matrix products, 2 per multiplication and addition; nothing else counts beside
it. Bytes are what is read and written in the device's memory if nothing is
kept nearer, without the padding of layouts; of an array that is read or
written in part, the part counts.
"""

import itertools
import math
import re

from mjx_crossq.launch.bench.hlo import Computation, Instruction, Module

FREE = {
  'add-dependency',
  'after-all',
  'bitcast',
  'constant',
  'get-tuple-element',
  'opt-barrier',
  'parameter',
  'partition-id',
  'replica-id',
  'tuple',
}
"""Operations that name something and run nothing."""
CONTROL = {'while', 'conditional', 'call', 'async-start'}
"""Operations that run other computations."""
_FREE_CALLS = {'AllocateBuffer', 'AssumeGatherIndicesInBound', 'Sharding'}
_COPIES = {'copy', 'copy-start', 'slice-start'}
_MOVES = {'copy', 'transpose', 'reshape', 'slice'}
"""What the body of a fusion that only copies consists of."""
_PARTS = {'dynamic-slice', 'gather', 'slice'}
"""Operations that read a part of their first operand."""


def launches(instruction: Instruction) -> bool:
  """Whether the instruction is something that the device starts.

  Args:
    instruction: of a computation that is no fusion's.
  """
  opcode = instruction.opcode
  if opcode in FREE or opcode in CONTROL:
    return False
  if opcode.endswith(('-done', '-update')):  # the end of what is counted
    return False
  return not (opcode == 'custom-call' and instruction.target in _FREE_CALLS)


def launches_within(module: Module, name: str) -> int:
  """Launches of a computation, each loop's body and each branch once.

  Args:
    module: the program.
    name: of the computation.
  """
  total = 0
  for instruction in module.computations[name].values():
    total += launches(instruction)
    inner = list(instruction.branches)
    if instruction.opcode in CONTROL:
      keys = ('body', 'to_apply', 'calls')
      inner += filter(None, map(instruction.calls, keys))
    total += sum(launches_within(module, x) for x in inner)
  return total


def is_library_call(instruction: Instruction) -> bool:
  """Whether it calls a library: cuBLAS, cuSOLVER, LAPACK and the like.

  Args:
    instruction: one that is launched.
  """
  return (
    instruction.opcode == 'custom-call'
    and 'triton' not in instruction.target.lower()
  )


def is_copy(module: Module, instruction: Instruction) -> bool:
  """Whether it gives what it gets: a copy, perhaps with another layout.

  Args:
    module: the program.
    instruction: one that is launched.
  """
  if instruction.opcode in _COPIES:
    return True
  if instruction.opcode == 'transpose':
    return True
  if instruction.opcode != 'fusion':
    return False
  inside = module.computations[instruction.calls('calls')].values()
  opcodes = {i.opcode for i in inside} - FREE
  return bool(opcodes) and opcodes <= _MOVES


def makes_anew(module: Module, instruction: Instruction, size: int) -> bool:
  """Whether it writes a whole array of a size, not a part of one in place.

  Args:
    module: the program.
    instruction: one that is launched.
    size: number of elements.
  """
  results = instruction.results
  if instruction.opcode == 'copy-start':  # destination, source, semaphore
    results = results[:1]
  if all(array.size != size for array in results):
    return False
  return all(
    _written(computation, root) is None
    for computation, root in _roots(module, instruction)
    if any(array.size == size for array in root.results)
  )


def moved(module: Module, where: Computation, instruction: Instruction) -> int:
  """Bytes that an instruction reads and writes.

  Args:
    module: the program.
    where: the computation of the instruction.
    instruction: one that is launched.
  """
  if instruction.opcode == 'copy-start':
    return 2 * instruction.results[0].bytes
  read = 0
  for index, name in enumerate(instruction.operands):
    read += _read(module, where, instruction, index, name)
  written = 0
  for computation, root in _roots(module, instruction):
    part = _written(computation, root)
    written += root.bytes if part is None else part
  return read + written


def _read(module, where, instruction, index, name) -> int:
  """Bytes that are read of one operand."""
  whole = where[name].bytes if name in where else 0
  if instruction.opcode in _PARTS and index == 0:
    return instruction.bytes
  if instruction.opcode == 'dynamic-update-slice' and index == 0:
    return 0
  if instruction.opcode != 'fusion':
    return whole
  inside = module.computations[instruction.calls('calls')]
  parameter = next(
    i
    for i in inside.values()
    if i.opcode == 'parameter' and f'number={index}, ' in i.attributes + ', '
  )
  return min(whole, _read_inside(inside, parameter))


def _read_inside(inside: Computation, source: Instruction) -> int:
  """Bytes that a fusion reads of a parameter, or of a view of it."""
  total = 0
  for user in inside.values():
    if source.name not in user.operands:
      continue
    first = user.operands[0] == source.name
    if user.opcode == 'bitcast':
      total += _read_inside(inside, user)
    elif user.opcode in _PARTS and first:
      total += user.bytes
    elif not (user.opcode == 'dynamic-update-slice' and first):
      return source.bytes
  return total


def _roots(module, instruction) -> list[tuple[Computation, Instruction]]:
  """The operations that give the results of an instruction."""
  if instruction.opcode != 'fusion':
    return [({}, instruction)]
  inside = module.computations[instruction.calls('calls')]
  (root,) = (i for i in inside.values() if i.root)
  if root.opcode != 'tuple':
    return [(inside, root)]
  return [(inside, inside[name]) for name in root.operands]


def _written(computation: Computation, root: Instruction) -> int | None:
  """Bytes that are written of an array changed in place; None of another."""
  while root.opcode in ('bitcast', 'copy') and root.operands[0] in computation:
    if root.opcode == 'copy':
      return None
    root = computation[root.operands[0]]
  if root.opcode != 'dynamic-update-slice':
    return None
  update = computation.get(root.operands[1])
  return update.bytes if update else 0


# -------------------------------------------------------------------- FLOPs


def flops(module: Module, where: Computation, instruction: Instruction) -> int:
  """Arithmetic of the matrix products in an instruction.

  Args:
    module: the program.
    where: the computation of the instruction.
    instruction: one that is launched.
  """
  opcode = instruction.opcode
  if opcode == 'fusion':
    inside = module.computations[instruction.calls('calls')]
    return sum(flops(module, inside, i) for i in inside.values())
  if opcode == 'convolution':
    return _convolution(where, instruction)
  if opcode == 'dot' or (
    opcode == 'custom-call' and 'contracting_dimensions' in str(instruction)
  ):
    return _product(where, instruction)
  return 0


def _product(where: Computation, instruction: Instruction) -> int:
  """2 x the elements of the product x the length of each sum."""
  left = where[instruction.operands[0]].results[0]
  match = re.search(
    r'lhs_contracting_dim(?:s=\{|ensions":\[)([^}\]]*)', instruction.attributes
  )
  axes = [int(n) for n in re.findall(r'\d+', match[1])] if match else []
  length = math.prod(left.shape[axis] for axis in axes)
  return 2 * instruction.results[0].size * length


def _convolution(where: Computation, instruction: Instruction) -> int:
  """As which TPUs compute matrix products, a batch being a spatial axis."""
  match = re.search(r'dim_labels=(\w+)_(\w+)->(\w+)', instruction.attributes)
  if not match:
    return 0
  left, right = (where[name].results[0] for name in instruction.operands[:2])
  (out,) = instruction.results
  labels = [
    dict(zip(text, itertools.count(), strict=False)) for text in match.groups()
  ]
  of_left, of_right, of_out = labels
  window = dict(re.findall(r'(\w+)=([\w\-]+)', _window(instruction)))
  pairs = 1
  axes = sorted(label for label in of_out if label.isdigit())
  for index, label in enumerate(axes):

    def setting(name, default, index=index):
      text = window.get(name)
      return text.split('x')[index] if text else default

    low = int(str(setting('pad', '0_0')).split('_')[0])
    stride = int(setting('stride', 1))
    spread, dilation = (
      int(setting('lhs_dilate', 1)),
      int(setting('rhs_dilate', 1)),
    )
    last = (left.shape[of_left[label]] - 1) * spread
    pairs *= sum(
      0 <= (at := o * stride + k * dilation - low) <= last and at % spread == 0
      for o in range(out.shape[of_out[label]])
      for k in range(right.shape[of_right[label]])
    )
  batch = out.shape[of_out['b']]
  features = out.shape[of_out['f']]
  return 2 * batch * features * right.shape[of_right['i']] * pairs


def _window(instruction: Instruction) -> str:
  match = re.search(r'window=\{([^}]*)\}', instruction.attributes)
  return match[1] if match else ''
