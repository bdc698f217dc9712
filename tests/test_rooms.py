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
MAY_IMPORT['datasets'] = MAY_IMPORT['policy'] | {'datasets'}
MAY_IMPORT['launch'] = MAY_IMPORT['datasets'] | {'launch'}

KNOW_THE_ENVIRONMENT = {'device', 'host', 'policy', 'datasets', 'envs'}
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
  'stable_baselines3': 'in an extra that need not be installed',
  'mujoco_playground': 'in an extra that need not be installed',
}
"""Why a module that needs one of these may be imported within a function."""

WITHIN_FUNCTIONS = {
  ('mjx_crossq.envs.suite', 'mjx_crossq.envs.warp.physics'): (
    'the second backend, which only --physics=warp needs'
  ),
}
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
def imports(module: str) -> list[tuple[str, str, int]]:
  """What a module imports: full name, when, and the line.

  When is 'at once', in a 'function', or for 'types' only.
  """
  tree = ast.parse(MODULES[module].read_text())
  found = []

  def visit(node, when):
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
      when = 'function'
    elif isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test):
      when = 'types'
    elif isinstance(node, ast.Import):
      found.extend((a.name, when, node.lineno) for a in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.module, f'{module}:{node.lineno} is a relative import'
      for alias in node.names:
        name = f'{node.module}.{alias.name}'
        known = name in MODULES or node.module not in MODULES
        target = name if known else home(node.module, alias.name)
        found.append((target, when, node.lineno))
    for child in ast.iter_child_nodes(node):
      visit(child, when)

  visit(tree, 'at once')
  return found


def home(module: str, name: str) -> str:
  """Where a name of the package's public face is defined."""
  if module == 'mjx_crossq' and name in mjx_crossq._HOMES:
    return f'mjx_crossq.{mjx_crossq._HOMES[name]}'
  return module


def edges() -> Iterator[tuple[str, str, str, str]]:
  """Importer, imported module of ours, when, and a line for the message."""
  for module, path in MODULES.items():
    if module != 'mjx_crossq':  # the face knows every room
      for target, when, line in imports(module):
        if target in MODULES:
          where = f'{path.relative_to(ROOT)}:{line} imports {target}'
          yield module, target, when, where


@functools.cache
def packages(module: str, above: tuple[str, ...] = ()) -> frozenset[str]:
  """Heavy packages that importing a module imports."""
  found = set()
  for target, when, _ in imports(module):
    if when == 'at once' and target in MODULES and target not in above:
      found |= packages(target, (*above, module))
    elif when == 'at once':
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
  late = {(a, b) for a, b, when, _ in edges() if when == 'function'}
  assert set(WITHIN_FUNCTIONS) <= late
  wrong = [
    where
    for importer, imported, when, where in edges()
    if when == 'function'
    and not packages(imported) - packages(importer)
    and (importer, imported) not in WITHIN_FUNCTIONS
  ]
  assert not wrong, '\n'.join(wrong)


def test_results_need_no_jax():
  wrong = [m for m in MODULES if room(m) == 'results' and 'jax' in packages(m)]
  assert not wrong
