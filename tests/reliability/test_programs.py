"""What the host does is no part of the programs: no change of it compiles."""

import numpy as np

from mjx_crossq import Runner
from mjx_crossq.config import SCHEDULE_FIELDS
from tests.reliability import runs


def lowered(config):
  """The text of each program before it is compiled."""
  runner = Runner(config, runs.env())
  programs = {
    name for name, value in vars(runner).items() if hasattr(value, 'lower')
  }
  assert programs == {*runs.PROGRAMS}
  state = runner.abstract_state()
  policy, seeds = state.agent.actor.network, config.num_seeds
  obs = np.zeros((seeds, 3, 2), np.float32)
  return {
    'init': runner._init.lower(*runner._placed_start()).as_text(),
    'train_chunk': runner.lower_train_chunk().as_text(),
    'evaluate': runner._evaluate.lower(policy, runner._keys_at(0)).as_text(),
    'act': runner._act.lower(policy, obs).as_text(),
    'diagnose': runner._diagnose.lower(*runner._diagnosed(state, 0)).as_text(),
  }


def test_host_fields_are_no_part_of_the_programs():
  in_programs = {'eval_episodes', 'diagnostics_every'}
  assert {*SCHEDULE_FIELDS} - in_programs <= {*runs.HOST_FIELDS}
  assert lowered(runs.config()) == lowered(runs.config(**runs.HOST_FIELDS))
