"""How often a loop of a compiled program runs, where the text tells.

The compilers for CPUs and GPUs write it down. That for TPUs does not, but its
loops of a fixed length can be recognised: they compare a counter with a
constant. Both may be passed in through loops and branches further out. The
counter goes up by 1, as that of every loop that JAX makes does.
"""

import re

from mjx_crossq.launch.bench.hlo import Instruction, Module

_SAME = {'copy', 'bitcast', 'copy-start', 'copy-done', 'opt-barrier'}


def of(module: Module, where: str, loop: Instruction) -> int | None:
  """The number of trips of a loop; None where it depends on data.

  Args:
    module: the program.
    where: name of the loop's computation.
    loop: the loop.
  """
  if loop.trips is not None:
    return loop.trips
  name = loop.calls('condition')
  condition = module.computations[name]
  (root,) = (i for i in condition.values() if i.root)
  direction = re.search(r'\bdirection=(\w+)', root.attributes)
  if root.opcode != 'compare' or not direction:
    return None
  counter, limit = root.operands
  if direction[1] == 'GT':
    counter, limit = limit, counter
  elif direction[1] != 'LT':
    return None
  index = _index(condition[counter])
  last = _value(module, name, limit)
  if index is None or last is None:
    return None
  first = _element(module, where, loop.operands[0], index)
  return None if first is None else max(0, last - first)


def _index(instruction: Instruction) -> int | None:
  """Which element of a tuple an instruction takes."""
  match = re.search(r'\bindex=(\d+)', instruction.attributes)
  return int(match[1]) if match else None


def _value(module: Module, where: str, name: str) -> int | None:
  """The number that an instruction gives, if it is a constant."""
  instruction = module.computations[where][name]
  if instruction.opcode == 'constant':
    match = re.match(r'value=(-?\d+),', instruction.attributes)
    return int(match[1]) if match else None
  if instruction.opcode in _SAME:
    return _value(module, where, instruction.operands[0])
  if instruction.opcode == 'get-tuple-element':
    index = _index(instruction)
    if index is not None:
      return _element(module, where, instruction.operands[0], index)
  return None


def _element(module: Module, where: str, name: str, index: int) -> int | None:
  """`_value` of an element of a tuple."""
  computation = module.computations[where]
  instruction = computation[name]
  if instruction.opcode == 'tuple':
    return _value(module, where, instruction.operands[index])
  if instruction.opcode == 'while' and _stays(module, instruction, index):
    return _element(module, where, instruction.operands[0], index)
  if instruction.opcode != 'parameter' or where not in module.callers:
    return None
  outside, caller, operand = module.callers[where]
  if caller.opcode == 'while' and not _stays(module, caller, index):
    return None
  return _element(module, outside, operand, index)


def _stays(module: Module, loop: Instruction, index: int) -> bool:
  """Whether a loop leaves an element of its tuple as it is."""
  body = module.computations[loop.calls('body')]
  (root,) = (i for i in body.values() if i.root)
  if root.opcode != 'tuple':
    return False
  kept = body[root.operands[index]]
  return (
    kept.opcode == 'get-tuple-element'
    and _index(kept) == index
    and body[kept.operands[0]].opcode == 'parameter'
  )
