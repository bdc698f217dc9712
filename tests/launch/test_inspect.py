"""`launch.inspect` counts what a compiled program runs."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from mjx_crossq.launch.bench import hlo, inspection, parts, targets, trips, work
from mjx_crossq.learner import branches

from . import programs

# A training program for a GPU, small enough to be counted by hand: a loop over
# decisions whose body has a physics step (two launches, and three a solver
# iteration), a loop over 5 updates, a branch for the actor, and a write into
# the replay f32[100,8].
TEXT = """\
HloModule jit_train_chunk, is_scheduled=true, input_output_alias={ {0}: (0) }

FileNames
1 "/site/mujoco/mjx/_src/solver.py"
2 "/here/envs/mjx/physics.py"
3 "/here/mjx_crossq/learner/agent.py"
4 "/site/mujoco/mjx/_src/math.py"
5 "/here/mjx_crossq/learner/branches.py"

FunctionNames
1 "solve"
2 "_euler"
3 "Agent.update_critic"
4 "Agent.update_actor"
5 "rotate"
6 "Agent.update"
7 "when"

FileLocations
1 {file_name_id=2 function_name_id=2 line=1 end_line=1 column=1 end_column=2}
2 {file_name_id=1 function_name_id=1 line=9 end_line=9 column=1 end_column=2}
3 {file_name_id=3 function_name_id=3 line=2 end_line=2 column=1 end_column=2}
4 {file_name_id=3 function_name_id=4 line=3 end_line=3 column=1 end_column=2}
5 {file_name_id=4 function_name_id=5 line=3 end_line=3 column=1 end_column=2}
6 {file_name_id=3 function_name_id=6 line=4 end_line=4 column=1 end_column=2}
7 {file_name_id=5 function_name_id=7 line=4 end_line=4 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=1}
4 {file_location_id=4 parent_frame_id=1}
5 {file_location_id=5 parent_frame_id=2}
6 {file_location_id=6 parent_frame_id=1}
7 {file_location_id=7 parent_frame_id=7}


%fused_write (p.0: f32[100,8], p.1: f32[1,8], p.2: s32[]) -> f32[100,8] {
  %p.0 = f32[100,8]{1,0} parameter(0)
  %p.1 = f32[1,8]{1,0} parameter(1)
  %p.2 = s32[] parameter(2)
  %zero.1 = s32[] constant(0)
  ROOT %write.1 = f32[100,8]{1,0} dynamic-update-slice(%p.0, %p.1, %p.2, %zero.1)
}

%fused_gather (p.3: f32[100,8], p.4: s32[4,1]) -> f32[4,8] {
  %p.3 = f32[100,8]{1,0} parameter(0)
  %p.4 = s32[4,1]{1,0} parameter(1)
  ROOT %gather.1 = f32[4,8]{1,0} gather(%p.3, %p.4), slice_sizes={1,8}
}

%fused_add (p.5: f32[4,8]) -> f32[4,8] {
  %p.5 = f32[4,8]{1,0} parameter(0)
  ROOT %add.1 = f32[4,8]{1,0} add(%p.5, %p.5)
}

%fused_copy (p.6: f32[4,8]) -> f32[4,8] {
  %p.6 = f32[4,8]{1,0} parameter(0)
  ROOT %copy.1 = f32[4,8]{0,1} copy(%p.6)
}

%solver_condition (c.0: (f32[4,8])) -> pred[] {
  %c.0 = (f32[4,8]{1,0}) parameter(0)
  ROOT %c.1 = pred[] custom-call(%c.0), custom_call_target="f"
}

%solver_body (c.2: (f32[4,8])) -> (f32[4,8]) {
  %c.2 = (f32[4,8]{1,0}) parameter(0)
  %c.3 = f32[4,8]{1,0} get-tuple-element(%c.2), index=0
  %c.4 = f32[4,8]{1,0} fusion(%c.3), kind=kLoop, calls=%fused_add, metadata={op_name="jit(train_chunk)/while/body/environment/jit(step)/while/body/add" stack_frame_id=2}
  %c.5 = f32[4,8]{0,1} fusion(%c.4), kind=kLoop, calls=%fused_copy
  ROOT %c.6 = (f32[4,8]{1,0}) tuple(%c.5)
}

%actor_condition (a.5: (f32[4,8], pred[])) -> pred[] {
  %a.5 = (f32[4,8]{1,0}, pred[]) parameter(0)
  ROOT %a.6 = pred[] get-tuple-element(%a.5), index=1
}

%actor (a.0: (f32[4,8], pred[])) -> (f32[4,8], pred[]) {
  %a.0 = (f32[4,8]{1,0}, pred[]) parameter(0)
  %a.1 = f32[4,8]{1,0} get-tuple-element(%a.0), index=0
  %a.2 = f32[4,8]{1,0} fusion(%a.1), kind=kLoop, calls=%fused_add, metadata={op_name="jit(train_chunk)/while/body/update/while/body/add" stack_frame_id=4}
  %a.3 = f32[4,8]{1,0} copy(%a.2)
  %a.7 = pred[] constant(false)
  ROOT %a.4 = (f32[4,8]{1,0}, pred[]) tuple(%a.3, %a.7)
}

%update_condition (u.0: (s32[], f32[4,8], f32[100,8])) -> pred[] {
  %u.0 = (s32[], f32[4,8]{1,0}, /*index=2*/f32[100,8]{1,0}) parameter(0)
  ROOT %u.1 = pred[] custom-call(%u.0), custom_call_target="f"
}

%update_body (u.2: (s32[], f32[4,8], f32[100,8])) -> (s32[], f32[4,8], f32[100,8]) {
  %u.2 = (s32[], f32[4,8]{1,0}, /*index=2*/f32[100,8]{1,0}) parameter(0)
  %u.3 = s32[] get-tuple-element(%u.2), index=0
  %u.4 = f32[100,8]{1,0} get-tuple-element(%u.2), index=2
  %u.5 = s32[4,1]{1,0} constant({...})
  %u.6 = f32[4,8]{1,0} fusion(%u.4, %u.5), kind=kLoop, calls=%fused_gather, metadata={op_name="jit(train_chunk)/while/body/update/while/body/replay/gather" stack_frame_id=3}
  %u.7 = (f32[4,8]{1,0}, s8[4194304]{0}) custom-call(%u.6, %u.6), custom_call_target="__cublas$gemm", metadata={op_name="jit(train_chunk)/while/body/begin/jit(shared)/dot_general" stack_frame_id=3}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %u.8 = f32[4,8]{1,0} get-tuple-element(%u.7), index=0
  %u.13 = s32[] copy(%u.3)
  ROOT %u.14 = (s32[], f32[4,8]{1,0}, /*index=2*/f32[100,8]{1,0}) tuple(%u.13, %u.8, %u.4)
}

%decision_condition (d.0: (f32[4,8], f32[100,8])) -> pred[] {
  %d.0 = (f32[4,8]{1,0}, f32[100,8]{1,0}) parameter(0)
  ROOT %d.1 = pred[] custom-call(%d.0), custom_call_target="f"
}

%decision (d.2: (f32[4,8], f32[100,8])) -> (f32[4,8], f32[100,8]) {
  %d.2 = (f32[4,8]{1,0}, f32[100,8]{1,0}) parameter(0)
  %d.3 = f32[4,8]{1,0} get-tuple-element(%d.2), index=0
  %d.4 = f32[100,8]{1,0} get-tuple-element(%d.2), index=1
  %d.5 = f32[4,8]{1,0} fusion(%d.3), kind=kLoop, calls=%fused_add, metadata={op_name="jit(train_chunk)/while/body/environment/jit(step)/add" stack_frame_id=1}
  %d.6 = f32[4,8]{1,0} fusion(%d.5), kind=kLoop, calls=%fused_add, metadata={op_name="jit(train_chunk)/while/body/environment/jit(step)/add" stack_frame_id=5}
  %d.7 = (f32[4,8]{1,0}) tuple(%d.6)
  %d.8 = (f32[4,8]{1,0}) while(%d.7), condition=%solver_condition, body=%solver_body, metadata={op_name="jit(train_chunk)/while/body/environment/jit(step)/while" stack_frame_id=2}
  %d.9 = f32[4,8]{1,0} get-tuple-element(%d.8), index=0
  %d.10 = f32[1,8]{1,0} slice(%d.9), slice={[0:1], [0:8]}, metadata={op_name="jit(train_chunk)/while/body/replay/slice"}
  %d.11 = s32[] constant(7)
  %d.12 = f32[100,8]{1,0} fusion(%d.4, %d.10, %d.11), kind=kLoop, calls=%fused_write, metadata={op_name="jit(train_chunk)/while/body/replay/dynamic_update_slice"}
  %d.13 = f32[100,8]{0,1} copy(%d.12)
  %d.14 = s32[] constant(0)
  %d.15 = (s32[], f32[4,8]{1,0}, /*index=2*/f32[100,8]{1,0}) tuple(%d.14, %d.9, %d.13)
  %d.16 = (s32[], f32[4,8]{1,0}, /*index=2*/f32[100,8]{1,0}) while(%d.15), condition=%update_condition, body=%update_body, metadata={op_name="jit(train_chunk)/while/body/update/while"}, backend_config={"known_trip_count":{"n":"5"}}
  %d.17 = f32[4,8]{1,0} get-tuple-element(%d.16), index=1
  %d.19 = pred[] constant(true)
  %d.20 = (f32[4,8]{1,0}, pred[]) tuple(%d.17, %d.19)
  %d.21 = (f32[4,8]{1,0}, pred[]) while(%d.20), condition=%actor_condition, body=%actor, metadata={op_name="jit(train_chunk)/while/body/update/while" stack_frame_id=7}
  %d.22 = f32[4,8]{1,0} get-tuple-element(%d.21), index=0
  ROOT %d.18 = (f32[4,8]{1,0}, f32[100,8]{1,0}) tuple(%d.22, %d.12)
}

ENTRY %main (e.0: f32[4,8], e.1: f32[100,8]) -> (f32[4,8], f32[100,8]) {
  %e.0 = f32[4,8]{1,0} parameter(0)
  %e.1 = f32[100,8]{1,0} parameter(1)
  %e.2 = f32[4,8]{1,0} copy(%e.0)
  %e.3 = (f32[4,8]{1,0}, f32[100,8]{1,0}) tuple(%e.2, %e.1)
  ROOT %e.4 = (f32[4,8]{1,0}, f32[100,8]{1,0}) while(%e.3), condition=%decision_condition, body=%decision, metadata={op_name="jit(train_chunk)/while"}
}
"""  # noqa: E501
FREQUENCIES = parts.Frequencies(
  updates=5,
  policy_delay=3,
  begins=1 / 500,
  physics_steps=1,
  solver_iterations=4,
)


@pytest.fixture(scope='module')
def walk():
  return parts.Walk(hlo.parse(TEXT), FREQUENCIES)


@pytest.fixture(scope='module')
def runs(walk):
  return list(walk.decision())


def test_stored_program_by_part(walk, runs):
  by_part = parts.by_part(walk.module, runs)
  launches = {name: c.launches for name, c in by_part.items() if c.launches}
  assert launches == pytest.approx(
    {
      'physics step': 2,
      # An addition, a copy and the condition, four times.
      'solver iteration': 12,
      # The slice, the write and a gather for each of 5 updates.
      'replay': 7,
      # The product, of a function that is named after where it was traced
      # first, and the copy of the counter.
      'update: critic': 5 * 2,
      # In two of three decisions, after the two updates beyond a block of 3.
      'update: actor': 2 * 2 / 3,
      # The copy of the replay, and the condition of the loop.
      'rest': 2,
    }
  )
  copies = {name: c.copies for name, c in by_part.items() if c.copies}
  assert copies == pytest.approx(
    {
      'solver iteration': 4,
      'update: critic': 5,
      'update: actor': 2 / 3,
      'rest': 1,
    }
  )
  control = {name: c.control for name, c in by_part.items() if c.control}
  assert control == pytest.approx(
    {'solver iteration': 4, 'update: actor': 1 + 2 / 3, 'rest': 1}
  )
  assert by_part['update: critic'].library_calls == 5
  assert by_part['update: critic'].flops == 5 * 2 * 4 * 8 * 8
  assert not walk.unknown


def test_stored_program_in_figures(runs):
  walk = parts.Walk(hlo.parse(TEXT), FREQUENCIES)
  assert len(list(walk.decision())) == len(runs)
  by_part = parts.by_part(walk.module, runs)
  figures = inspection.launches(walk, runs, by_part)
  update = 1 + 2 + 2 * 2 / 3 / 5
  assert figures == pytest.approx(
    {
      'launches_per_decision': 2 + 12 + 2 + 5 * update + 2,
      'launches_per_update': update,
      'launches_per_physics_step': 2,
      'launches_per_solver_iteration': 3,
      'launches_per_physics_step_with_solver': 14,
    }
  )


def test_stored_program_by_function(walk, runs):
  rows = parts.by_function(walk, runs)
  assert ('physics step', 'physics._euler > math.rotate', 1) in rows
  assert ('physics step', 'physics._euler', 1) in rows
  assert ('solver iteration', 'solver.solve', 4) in rows
  assert ('solver iteration', 'XLA fusion', 4) in rows


def test_stored_program_copies_the_replay_once(walk, runs):
  found = inspection.copies_of_replay(walk, runs, {800})
  assert found == {
    'replay_copies': 1,  # d.13; the write is in place
    'replay_copies_per_decision': 1,
    'replay_copies_are': ['d.13, every decision'],
  }
  found = inspection.copies_of_replay(walk, runs, {32})
  assert 'e.2, every chunk' in found['replay_copies_are']


def test_bytes_of_what_is_used_in_part(walk):
  computations = walk.module.computations
  for name, where, expected in (
    # The row is read and written, and its position is read.
    ('d.12', 'decision', 32 + 4 + 32),
    # Four rows are read and written, and their indices are read.
    ('u.6', 'update_body', 128 + 16 + 128),
    ('d.13', 'decision', 2 * 3200),
    ('d.5', 'decision', 2 * 128),
  ):
    instruction = computations[where][name]
    moved = work.moved(walk.module, computations[where], instruction)
    assert moved == expected, name


def test_a_convolution_of_a_tpu_is_counted_as_the_product_that_it_is():
  # f32[4,16,8] x f32[4,8,32], the batch of 4 being a spatial axis.
  text = """\
ENTRY %main (a: f32[4,16,8], b: f32[4,8,32]) -> f32[4,16,32] {
  %a = f32[4,16,8]{2,1,0:T(8,128)} parameter(0)
  %b = f32[4,8,32]{2,1,0:T(8,128)} parameter(1)
  ROOT %c = f32[4,16,32]{2,1,0:T(8,128)} convolution(%a, %b), window={size=4 stride=3 pad=0_0 lhs_dilate=4}, dim_labels=0bf_0io->0bf
}
"""  # noqa: E501
  module = hlo.parse(text)
  computation = module.computations['main']
  assert (
    work.flops(module, computation, computation['c']) == 2 * 4 * 16 * 8 * 32
  )


# As a compiler for TPUs writes a loop of 5 - 2 trips in one whose length is
# data: it passes the constant in, and does not say how often the loop runs.
NESTED = """\
%inner_condition (c.0: (s32[], s32[])) -> pred[] {
  %c.0 = (s32[], s32[]) parameter(0)
  %c.1 = s32[] get-tuple-element(%c.0), index=0
  %c.2 = s32[] get-tuple-element(%c.0), index=1
  ROOT %c.3 = pred[] compare(%c.1, %c.2), direction=LT
}

%inner (b.0: (s32[], s32[])) -> (s32[], s32[]) {
  %b.0 = (s32[], s32[]) parameter(0)
  %b.1 = s32[] get-tuple-element(%b.0), index=0
  %b.2 = s32[] get-tuple-element(%b.0), index=1
  %b.3 = s32[] constant(1)
  %b.4 = s32[] add(%b.1, %b.3)
  ROOT %b.5 = (s32[], s32[]) tuple(%b.4, %b.2)
}

%outer_until (o.0: (s32[], s32[])) -> pred[] {
  %o.0 = (s32[], s32[]) parameter(0)
  %o.1 = s32[] get-tuple-element(%o.0), index=0
  %o.2 = s32[] get-tuple-element(%o.0), index=1
  ROOT %o.3 = pred[] compare(%o.1, %o.2), direction=LT
}

%outer (p.0: (s32[], s32[])) -> (s32[], s32[]) {
  %p.0 = (s32[], s32[]) parameter(0)
  %p.1 = s32[] get-tuple-element(%p.0), index=0
  %p.2 = s32[] get-tuple-element(%p.0), index=1
  %p.3 = s32[] constant(2)
  %p.4 = s32[] copy(%p.3)
  %p.5 = (s32[], s32[]) tuple(%p.4, %p.2)
  %p.6 = (s32[], s32[]) while(%p.5), condition=%inner_condition, body=%inner
  %p.7 = s32[] get-tuple-element(%p.6), index=0
  %p.8 = s32[] multiply(%p.7, %p.1)
  ROOT %p.9 = (s32[], s32[]) tuple(%p.8, %p.2)
}

ENTRY %main (e.0: s32[]) -> (s32[], s32[]) {
  %e.0 = s32[] parameter(0)
  %e.1 = s32[] constant(5)
  %e.2 = (s32[], s32[]) tuple(%e.0, %e.1)
  ROOT %e.3 = (s32[], s32[]) while(%e.2), condition=%outer_until, body=%outer
}
"""


def test_trips_that_the_compiler_does_not_write_down():
  module = hlo.parse(NESTED)
  inner = module.computations['outer']['p.6']
  assert trips.of(module, 'outer', inner) == 3
  # The counter begins at a parameter of the program.
  assert trips.of(module, 'main', module.computations['main']['e.3']) is None
  # A limit that the outer loop changes is none that can be read.
  changed = NESTED.replace('tuple(%p.8, %p.2)', 'tuple(%p.8, %p.7)')
  module = hlo.parse(changed)
  inner = module.computations['outer']['p.6']
  assert trips.of(module, 'outer', inner) is None


def compiled_text(function, *shapes):
  arguments = [jax.ShapeDtypeStruct(shape, 'float32') for shape in shapes]
  return jax.jit(function).lower(*arguments).compile().as_text()


def test_counts_of_a_program_compiled_here():
  """Factorisations are library calls, however the rest is fused."""
  factor = jnp.linalg.cholesky

  def body(carry):
    x, n = carry
    with jax.named_scope('acting'):
      x = factor(x)
    with jax.named_scope('update'):
      x, _ = jax.lax.scan(lambda x, _: (factor(x), None), x, length=7)
    with jax.named_scope('begin'):
      x = branches.when(n % 5 == 0, factor, x)
    return x, n + 1

  text = compiled_text(
    lambda x, n: jax.lax.while_loop(lambda c: c[1] < n, body, (x, 0.0)),
    (3, 3),
    (),
  )
  walk = parts.Walk(hlo.parse(text), FREQUENCIES)
  by_part = parts.by_part(walk.module, list(walk.decision()))
  calls = {n: c.library_calls for n, c in by_part.items() if c.library_calls}
  assert calls == pytest.approx(
    {'acting': 1, 'update: critic': 7, 'episode begin': 1 / 500}
  )
  assert by_part['episode begin'].control == pytest.approx(1 + 1 / 500)


def test_products_of_a_program_compiled_here():
  def body(carry):
    x, n = carry
    return jnp.tanh(x @ x), n + 1

  text = compiled_text(
    lambda x, n: jax.lax.while_loop(lambda c: c[1] < n, body, (x, 0.0)),
    (40, 40),
    (),
  )
  walk = parts.Walk(hlo.parse(text), FREQUENCIES)
  by_part = parts.by_part(walk.module, list(walk.decision()))
  assert by_part['rest'].flops == 2 * 40**3


def test_a_program_without_a_loop_is_refused():
  walk = parts.Walk(hlo.parse(compiled_text(jnp.sin, (3,))), FREQUENCIES)
  with pytest.raises(ValueError, match='no loop'):
    list(walk.decision())
  with pytest.raises(ValueError, match='no entry'):
    hlo.parse('nothing')


def test_the_estimate_is_the_longer_of_two():
  record = {
    'launches_per_decision': 1000,
    'host_round_trips_per_decision': 10,
    'flops_per_decision': 2e9,
    'bytes_per_decision': 1e9,
  }
  target = dataclasses.replace(
    targets.TARGETS['h100'],
    launch_us=2.0,
    round_trip_us=10.0,
    flops=1e12,
    bandwidth=1e12,
  )
  found = inspection.estimate(record, target)
  assert found['estimate_of_launches_ms'] == pytest.approx(2.1)
  assert found['estimate_of_work_ms'] == pytest.approx(2.0)
  assert found['estimated_floor_ms_per_decision'] == pytest.approx(2.1)


# ------------------------------------------------------------- the program

SMALL = (*programs.SMALL, '--set=utd=6')
KEYS = {
  'target',
  'task',
  'num_seeds',
  'launches_per_update',
  'launches_per_physics_step',
  'launches_per_solver_iteration',
  'launches_per_decision',
  'host_round_trips_per_decision',
  'replay_copies',
  'temporary_bytes',
  'argument_bytes',
  'trace_seconds',
  'compile_seconds',
}


def test_program(tmp_path):
  path, text = tmp_path / 'figures.json', tmp_path / 'program.hlo'
  result = programs.run(
    'inspect',
    '--task=pendulum-swingup',
    '--num_seeds=2',
    *SMALL,
    '--by=function',
    f'--json={path}',
    f'--hlo={text}',
  )
  assert result.returncode == 0, result.stderr
  assert 'estimate, not a measurement' in result.stdout
  assert re.search(r'physics step +\w+\.', result.stdout)
  record = json.loads(path.read_text())
  assert record.keys() >= KEYS
  assert record['target'] == 'here' and record['num_seeds'] == 2
  assert record['launches_per_solver_iteration'] is None  # no constraints
  for name, counts in record['parts'].items():
    assert (counts['launches'] > 0) == (name != 'solver iteration'), name
  total = sum(part['launches'] for part in record['parts'].values())
  assert record['launches_per_decision'] == pytest.approx(total)
  assert record['host_round_trips_per_decision'] == 0
  assert record['replay_copies'] == 0
  assert record['donated_bytes'] > 2 * 1000 * (2 * 3 + 3) * 4  # the replay
  assert text.read_text().startswith('HloModule jit_train_chunk')


@pytest.mark.slow
def test_updates_that_are_not_of_every_decision(tmp_path):
  """A quarter of the launches of updates, and the same for each update."""
  found = {}
  for utd, more in ((1, ()), (0.25, ('--set=reset_every=9',))):
    path = tmp_path / 'figures.json'
    result = programs.run(
      'inspect',
      '--task=pendulum-swingup',
      *programs.SMALL,
      f'--set=utd={utd}',
      *more,
      f'--json={path}',
    )
    assert result.returncode == 0, result.stderr
    found[utd] = json.loads(path.read_text())
  every, fourth = found[1], found[0.25]
  assert every['updates_per_decision'] == 1
  assert fourth['updates_per_decision'] == 0.25
  assert fourth['launches_per_update'] == pytest.approx(
    every['launches_per_update'], rel=0.02
  )
  for name, share in (('update: critic', 0.25), ('physics step', 1)):
    assert fourth['parts'][name]['flops'] == pytest.approx(
      share * every['parts'][name]['flops']
    )
    assert fourth['parts'][name]['launches'] == pytest.approx(
      share * every['parts'][name]['launches'], rel=0.05
    )


def test_flags():
  programs.check_errors(
    'inspect',
    {
      ('--target=abacus',): 'h100|v5e|v6e|here',
      ('--task=nothing-run',): 'nothing-run',
      ('--json=/no/folder/f.json',): 'no folder',
      ('--num_seeds=2', '--set=num_seeds=3'): 'contradicts',
      ('--set=nothing=3',): 'nothing',
      ('--solver_iterations=-1',): 'solver_iterations',
    },
  )


@pytest.mark.parametrize('target', ['h100', 'v5e'])
def test_a_missing_compiler_says_what_brings_it(target, monkeypatch):
  missing = dataclasses.replace(
    targets.TARGETS[target], module='no_such.module'
  )
  monkeypatch.setitem(targets.TARGETS, target, missing)
  with pytest.raises(targets.MissingCompilerError) as error:
    targets.prepare(target)
  assert "pip install 'mjx-crossq[inspect]'" in str(error.value)


# ------------------------------------------------- chips that are not here

# Upper bounds, because compilers change; docs/inspect.md has the figures.
BOUNDS = {
  ('h100', 'cheetah-run'): {
    'launches_per_update': 75,
    'launches_per_physics_step': 54,
    'launches_per_solver_iteration': 20,
    'launches_per_decision': 1100,
    'host_round_trips_per_decision': 16,
    'replay_copies': 0,
    'temporary_bytes': 240 * 2**20,
  },
  ('h100', 'humanoid-run'): {
    'launches_per_update': 77,
    'launches_per_physics_step': 76,
    'launches_per_solver_iteration': 29,
    'launches_per_decision': 2450,
    'replay_copies': 0,
  },
  ('v5e', 'cheetah-run'): {
    'replay_copies': 0,
    'temporary_bytes': 0.3e9,
  },
}


@pytest.mark.slow
@pytest.mark.parametrize(('target', 'task'), BOUNDS)
def test_bounds_on_a_chip_that_is_not_here(target, task, tmp_path):
  """Two minutes each, and all of them at the sizes of the paper."""
  if not targets.is_installed(targets.TARGETS[target]):
    pytest.skip(f"no compiler for {target}: pip install '.[inspect]'")
  path = tmp_path / 'figures.json'
  # A process of its own: JAX looks for the compilers when it starts.
  command = [sys.executable, '-m', 'mjx_crossq.launch.inspect']
  flags = f'--target={target}', f'--task={task}', '--num_seeds=10'
  result = subprocess.run(
    [*command, *flags, f'--json={path}'],
    capture_output=True,
    text=True,
    check=False,
    env={**os.environ, 'XLA_FLAGS': ''},
  )
  assert result.returncode == 0, result.stderr
  record = json.loads(path.read_text())
  for name, bound in BOUNDS[target, task].items():
    assert record[name] <= bound, (name, record[name])
