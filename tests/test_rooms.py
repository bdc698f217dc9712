"""Which room of the package may import which, read from the source."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import mjx_crossq

ROOT = Path(mjx_crossq.__file__).parent

# `config` are the modules beside the rooms: config, presets, errors, ...
MAY_IMPORT = {
  'config': {'config'},
  'learner': {'learner', 'config'},
  'device': {'device', 'learner', 'config', 'envs'},
  'results': {'results', 'config'},
  'host': {'host', 'results', 'device', 'learner', 'config', 'envs'},
  'envs': {'envs'},
}
MAY_IMPORT['policy'] = MAY_IMPORT['host'] | {'policy'}
MAY_IMPORT['launch'] = MAY_IMPORT['policy'] | {'launch'}

KNOW_THE_ENVIRONMENT = {'device', 'host', 'policy', 'envs'}
"""Rooms that may import `envs.base`."""

HEAVY = {
  'jax': 'a second to import',
  'flax': 'imports jax',
  'optax': 'imports jax',
  'orbax': 'imports jax',
  'brax': 'imports jax',
  'mujoco': 'MUJOCO_GL must be decided before',
  'dm_control': 'MUJOCO_GL must be decided before',
  'matplotlib': 'half a second to import',
  'onnx': 'in an extra that need not be installed',
  'gymnasium': 'in an extra that need not be installed',
  'mujoco_playground': 'in an extra that need not be installed',
}
"""Why a module that needs one of these may be imported within a function."""

WITHIN_FUNCTIONS: dict[tuple[str, str], str] = {}
"""Other imports within functions, (importer, imported), with the reason."""


def modules() -> dict[str, Path]:
  """Files by module, those behind the links to envs/ and launch/ included."""
  paths = [
    *ROOT.glob('*.py'),
    *(p for room in MAY_IMPORT for p in (ROOT / room).rglob('*.py')),
  ]
  names = {}
  for path in paths:
    parts = ('mjx_crossq', *path.relative_to(ROOT).with_suffix('').parts)
    names['.'.join(parts).removesuffix('.__init__')] = path
  return names


MODULES = modules()


def room(module: str) -> str:
  name = module.split('.')[1] if '.' in module else 'config'
  return name if name in MAY_IMPORT else 'config'


@functools.cache
def imports(module: str) -> list[tuple[str, bool, int]]:
  """What a module imports: full name, whether in a function, and the line."""
  tree = ast.parse(MODULES[module].read_text())
  found = []

  def visit(node, inside):
    inside |= isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    if isinstance(node, ast.Import):
      found.extend((a.name, inside, node.lineno) for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{module}:{node.lineno} is a relative import'
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        known = name in MODULES or node.module not in MODULES
        target = name if known else home(node.module, alias.name)
        found.append((target, inside, node.lineno))
    for child in ast.iter_child_nodes(node):
      visit(child, inside)

  visit(tree, False)
  return found


def home(module: str, name: str) -> str:
  """Where a name of the package's public face is defined."""
  if module == 'mjx_crossq' and name in mjx_crossq._HOMES:
    return f'mjx_crossq.{mjx_crossq._HOMES[name]}'
  return module


def edges() -> Iterator[tuple[str, str, bool, str]]:
  """Importer, imported module of ours, whether in a function, and where."""
  for module, path in MODULES.items():
    if module != 'mjx_crossq':  # the face knows every room
      for target, inside, line in imports(module):
        if target in MODULES:
          where = f'{path.relative_to(ROOT)}:{line} imports {target}'
          yield module, target, inside, where


@functools.cache
def packages(module: str, above: tuple[str, ...] = ()) -> frozenset[str]:
  """Heavy packages that importing a module imports."""
  found = set()
  for target, inside, _ in imports(module):
    if not inside and target in MODULES and target not in above:
      found |= packages(target, (*above, module))
    elif not inside:
      found.add(target.split('.')[0])
  return frozenset(found & set(HEAVY))


def test_rooms_import_only_what_is_below_them():
  wrong = [
    where
    for importer, imported, _, where in edges()
    if room(imported) not in MAY_IMPORT[room(importer)]
  ]
  assert not wrong, '\n'.join(wrong)


def test_only_three_rooms_know_the_interface_of_environments():
  wrong = [
    where
    for importer, imported, _, where in edges()
    if imported == 'mjx_crossq.envs.base'
    and room(importer) not in KNOW_THE_ENVIRONMENT
  ]
  assert not wrong, '\n'.join(wrong)


def test_imports_within_functions_have_a_reason():
  wrong = [
    where
    for importer, imported, inside, where in edges()
    if inside
    and not packages(imported) - packages(importer)
    and (importer, imported) not in WITHIN_FUNCTIONS
  ]
  assert not wrong, '\n'.join(wrong)


def test_results_need_no_jax():
  wrong = [m for m in MODULES if room(m) == 'results' and 'jax' in packages(m)]
  assert not wrong
