"""Networks of another run with which the agents of a run begin.

The optimisers, the temperature and the replay begin anew, so the task may be
another one whose observations and actions have the same sizes, and learning
rates and most other settings may differ.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mjx_crossq import config as config_lib
from mjx_crossq import vary
from mjx_crossq.config import Config, ConfigError
from mjx_crossq.device.runner import Runner
from mjx_crossq.device.trainer import TrainState
from mjx_crossq.host import integrity
from mjx_crossq.host.items import from_dict, read_item, to_dict
from mjx_crossq.host.run_files import lineage_of
from mjx_crossq.host.workdir import checkpoint_rows
from mjx_crossq.learner.states import Network
from mjx_crossq.paths import local

# What the same numbers mean another function with. The shapes show the rest.
_SAME = (
  'block',
  'normalization',
  'weight_norm',
  'weight_norm_outputs',
  'bn_eps',
  'log_std_bound',
  'log_std_min',
  'log_std_max',
)
_SAME_CRITIC = ('critic_value', 'value_limit')


@dataclasses.dataclass(frozen=True)
class Start:
  """What the agents begin with.

  Attributes:
    actor: the policies, leaves `(rows, ...)` of numpy, one for each row.
    critic: the critics, or None where these begin anew.
    lineage: where they are from; recorded in `config.json`.
  """

  actor: Network
  critic: Network | None
  lineage: Mapping[str, Any]

  def into(self, state: TrainState, runner: Runner) -> TrainState:
    """The first state of a run with these networks.

    Args:
      state: as `Runner.init` gives it.
      runner: of the run.
    """

    def place(network):
      # Arrays of their own, which the training program may overwrite.
      return runner.placement.place(jax.tree.map(jnp.array, network))

    agent = state.agent
    actor = agent.actor.replace(network=place(self.actor))  # pyright: ignore
    critic = agent.critic
    if self.critic is not None:
      target = critic.target_params
      if target is not None:
        target = place(self.critic).params
      critic = critic.replace(  # pyright: ignore
        network=place(self.critic), target_params=target
      )
    agent = agent.replace(actor=actor, critic=critic)  # pyright: ignore
    return state.replace(agent=agent)  # pyright: ignore


def load(runner: Runner) -> Start:
  """Reads the networks that `config.init_from` names.

  Seed s begins with the other run's seed number s, counted from 0 and round
  where that has fewer; so do the seeds of each variant.

  Args:
    runner: of the run that begins; its shapes must be those of the other.

  Raises:
    ConfigError: there is no such run or checkpoint, or its networks are others.
  """
  c = runner.config
  if len(runner.placement.devices) > 1 and c.num_seeds == 1 and not c.vary:
    raise ConfigError('--init_from: not with --data_parallel')
  workdir, wanted = _parse(c.init_from)
  if not (workdir / 'config.json').is_file():
    raise ConfigError(f'--init_from={workdir} holds no run (no config.json)')
  source, _ = config_lib.load(workdir / 'config.json')
  _check_settings(source, c, workdir)
  folder, first = checkpoint_rows(workdir, source)
  critic_too = c.init_parts == 'policy_critic'
  part = 'agent' if critic_too else 'policy'
  step = integrity.newest_intact(folder, part) if wanted is None else wanted
  if step is None or step not in integrity.saved(folder):
    raise ConfigError(
      f'--init_from={workdir}: no checkpoint at env step {step}; there are: '
      f'{", ".join(map(str, integrity.saved(folder))) or "none"}'
    )
  if wrong := integrity.fault(folder / str(step), part):
    raise ConfigError(
      f'--init_from={workdir}: the checkpoint at env step {step} is damaged: '
      f'{wrong}'
    )
  stored = read_item(folder / str(step) / part)
  # By the absolute seed, so that blocks of seeds take what the whole run takes.
  taken = [(c.seed + i) % source.num_seeds for i in range(c.num_seeds)]
  rows = [first + row for row in taken] * len(vary.variants(c))
  like = runner.abstract_state().agent

  def network(name: str, like: Network) -> Network:
    start = f'{name}.network.' if critic_too else ''
    own = {
      path.removeprefix(start): x
      for path, x in stored.items()
      if path.startswith(start)
    }
    _check_shapes(own, like, f'--init_from={workdir}: {name}')
    return jax.tree.map(lambda x: np.asarray(x)[rows], from_dict(own, like))

  lineage = {
    'run': str(workdir.resolve()),
    'env_step': step,
    'parts': c.init_parts,
    'task': source.task,
    'preset': source.preset,
    'seeds': [source.seed + row for row in taken],
  }
  if earlier := lineage_of(workdir / 'config.json'):
    lineage['init'] = earlier
  return Start(
    network('actor', like.actor.network),
    network('critic', like.critic.network) if critic_too else None,
    lineage,
  )


def _parse(text: str) -> tuple[Path, int | None]:
  """The folder and the env step of RUN or RUN@STEP."""
  run, at, step = text.rpartition('@')
  if at and step.isdigit():
    return Path(local(run)), int(step)
  return Path(local(text)), None


def _check_settings(source: Config, config: Config, workdir: Path) -> None:
  names = _SAME
  if config.init_parts == 'policy_critic':
    names += _SAME_CRITIC
    if source.normalize_rewards:
      raise ConfigError(
        f'--init_from={workdir}: its critic is in units of its own rewards '
        '(normalize_rewards); take --init_parts=policy'
      )
  differ = [
    f'{name} ({getattr(source, name)!r} there, {getattr(config, name)!r} here)'
    for name in names
    if getattr(source, name) != getattr(config, name)
  ]
  if differ:
    raise ConfigError(
      f'--init_from={workdir} has networks of another kind: '
      f'{", ".join(differ)}; take its preset, or --set them'
    )


def _check_shapes(
  stored: Mapping[str, np.ndarray], like: Network, what: str
) -> None:
  """Refuses networks of other sizes; both have rows as their first axis."""
  here = {path: x.shape[1:] for path, x in to_dict(like).items()}
  there = {path: x.shape[1:] for path, x in stored.items()}
  for path in sorted({*here, *there}):
    if here.get(path) != there.get(path):
      raise ConfigError(
        f'{what} has another size: {path} is {there.get(path)} there and '
        f'{here.get(path)} here; tasks must have the same numbers of '
        'observations and actions, and networks the same widths and layers'
      )
