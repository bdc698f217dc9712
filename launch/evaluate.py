"""Evaluates the policies of a run, without its replay.

python -m launch.evaluate --workdir=runs/... --physics=dm_control
"""

from absl import flags

from mjx_crossq.config import ConfigError, choices
from mjx_crossq.host.progress import result_table
from mjx_crossq.launch import cli, path_flags

_WORKDIR = path_flags.define('workdir', None, 'folder of the run')
_PHYSICS = flags.DEFINE_enum(
  'physics',
  None,
  ['mjx', 'warp', 'dm_control'],
  "one physics only (the run's and dm_control)",
)
_STEP = flags.DEFINE_string(
  'step', None, 'env step of the checkpoint, or best (the newest)'
)
_EPISODES = flags.DEFINE_integer(
  'episodes', None, "episodes per seed (the run's eval_episodes)"
)


def main() -> None:
  """Reads the flags and evaluates."""
  workdir = cli.needed(_WORKDIR)
  # These load JAX; wrong flags are refused before that.
  from mjx_crossq.host.evaluation import StockEvaluation, has_stock

  cli.use_compilation_cache()
  changes = {}
  if _EPISODES.value is not None:
    changes['eval_episodes'] = _EPISODES.value
  if _PHYSICS.value in choices('physics'):
    changes['physics'] = _PHYSICS.value
  runner, policy, step = cli.load_policy(workdir, _STEP.value, **changes)
  env = runner.trainer.rollout.env
  stock = _PHYSICS.value in (None, 'dm_control') and has_stock(env)
  if _PHYSICS.value == 'dm_control' and not stock:
    raise ConfigError(f'{env.name} has no stock task; leave --physics')
  returns = {}
  if _PHYSICS.value != 'dm_control':
    returns[runner.config.physics] = runner.evaluate(policy, step)
  if stock:
    returns['dm_control'] = StockEvaluation(runner, env).returns(policy, step)
  print(f'{runner.config.task} at env step {step:,}')
  print(result_table(runner.seeds, returns))


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
