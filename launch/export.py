"""Writes a trained policy as files that need none of this project.

python -m launch.export --workdir=runs/... --formats=numpy,stablehlo,onnx
"""

from pathlib import Path

from absl import flags

from mjx_crossq.config import ConfigError
from mjx_crossq.envs import prng
from mjx_crossq.launch import cli, path_flags

_WORKDIR = path_flags.define('workdir', None, 'folder of the run')
_STEP = flags.DEFINE_string(
  'step', None, 'env step of the checkpoint, or best (the newest)'
)
_SEED = flags.DEFINE_integer('seed', None, "which seed (the run's first)")
_FORMATS = flags.DEFINE_list(
  'formats', ['numpy'], 'of numpy, stablehlo, onnx; the last two need .[export]'
)
_OUTPUT = path_flags.define(
  'output', None, 'folder to write (export/seed...-step... in the workdir)'
)

_OBSERVATIONS = 1000
"""How many observations each file is compared on, at least."""


def main() -> None:
  """Reads the flags, writes and compares."""
  workdir = cli.needed(_WORKDIR)
  # These load JAX; wrong flags are refused before that.
  import jax

  from mjx_crossq.host.evaluation import has_stock
  from mjx_crossq.policy import export

  unknown = [name for name in _FORMATS.value if name not in export.FORMATS]
  if unknown or not _FORMATS.value:
    raise ConfigError(
      f'--formats={",".join(_FORMATS.value)}: take some of '
      f'{", ".join(export.FORMATS)}'
    )
  cli.use_compilation_cache()
  runner, policy, step = cli.load_policy(workdir, _STEP.value)
  row, *_ = cli.rows(runner, _SEED.value)
  seed, env = runner.seeds[row], runner.trainer.rollout.env
  network = jax.tree.map(lambda x: x[row], policy)
  exporter = export.Exporter(runner.config, env, network, seed, step)
  folder = Path(_OUTPUT.value or f'{workdir}/export/seed{seed}-step{step}')
  try:
    folder.mkdir(parents=True, exist_ok=True)
    written = {name: getattr(exporter, name)(folder) for name in _FORMATS.value}
  except OSError as error:
    raise ConfigError(
      f'cannot write {folder}: {error.strerror}; choose another --output'
    ) from None
  if has_stock(env):
    obs = _roll_out(exporter, written)
  else:
    keys = jax.random.split(prng.key(seed), _OBSERVATIONS)
    obs = jax.device_get(jax.jit(jax.vmap(env.reset))(keys).obs)
    obs = export.actor_part(env, obs)
  for name, act in written.items():
    try:
      worst = exporter.check(act, obs, name)
    except export.ExportError as error:
      cli.fail(error, cli.RUN_ERROR)
    print(
      f'{name}: differs from the trained policy by at most {worst:.1e} on '
      f'{len(obs):,} observations'
    )
  print(f'written: {folder}')


def _roll_out(exporter, written):
  """Prints returns in stock dm_control, and returns the observations seen."""
  from mjx_crossq.policy import export  # likewise

  c, env = exporter.config, exporter.env
  count = -(-_OBSERVATIONS * c.action_repeat // env.episode_length)

  def roll_out(name, act):
    returns, obs = export.stock_episodes(
      env, c, act, exporter.seed, exporter.step, count
    )
    shown = ' '.join(f'{value:.2f}' for value in returns)
    print(f'{name}: return in stock dm_control {shown}')
    return obs

  seen = roll_out('live', exporter.live)
  for name, act in written.items():
    roll_out(name, act)
  return seen


def run() -> None:
  """Entry point."""
  cli.run(main, __doc__)


if __name__ == '__main__':
  run()
