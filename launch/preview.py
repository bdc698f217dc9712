"""What `launch.train` prints about a run before it begins."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from mjx_crossq import vary
from mjx_crossq.config import Config
from mjx_crossq.device import budget
from mjx_crossq.device.runner import Runner, placement_of
from mjx_crossq.launch.bench import targets


def announce(
  config: Config,
  devices: Sequence[Any],
  report: Callable[[str], None],
  *,
  data_parallel: bool,
) -> None:
  """Says what is trained, and where.

  Args:
    config: the resolved configuration.
    devices: that may be used.
    report: receives the lines.
    data_parallel: whether one seed is divided over them.
  """
  device = devices[0]
  placement = placement_of(config, devices, data_parallel=data_parallel)
  used = len(placement.devices)
  count = f'{len(vary.variants(config))} variants x ' if config.vary else ''
  report(
    f'{config.task}, {config.preset}: {count}{config.num_seeds} seed(s) of '
    f'{config.env_steps:,} env steps on {f"{used} x " if used > 1 else ""}'
    f'{device.device_kind}'
  )
  if config.preset == 'quickstart' and device.platform == 'cpu':
    report(
      'quickstart on CPU: smaller and faster than the paper (critic '
      f'{config.critic_layers} x {config.critic_width} instead of 2 x 512, '
      f'UTD {config.utd} instead of 10, action repeat '
      f'{config.action_repeat} instead of 2, learning rate '
      f'{config.critic_lr:g} instead of 3e-4)'
    )


def dry_run(
  config: Config,
  env: Any,
  devices: Sequence[Any],
  *,
  data_parallel: bool,
  target: targets.Target | None = None,
) -> None:
  """Prints what a run would be, and refuses what cannot fit.

  Args:
    config: the resolved configuration.
    env: the environment.
    devices: over which the seeds are distributed.
    data_parallel: divide one seed over them instead.
    target: the chip that the run is meant for, if it is not here.

  Raises:
    ConfigError: the memory does not suffice.
  """
  platform = target.backend if target else None
  for name, value in config.to_dict().items():
    print(f'  {name} = {value}')
  runner = Runner(
    config, env, devices, data_parallel=data_parallel, platform=platform
  )
  placement, state = runner.placement, runner.abstract_state()
  agent = state.agent
  print('parameters per seed:')
  for name, params in (
    ('actor', agent.actor.network.params),
    ('critic', agent.critic.network.params),
  ):
    count = budget.parameter_count(params) // placement.rows
    print(f'  {name:10} {count:12,}')
  memory = budget.Budget.of(state, placement.devices, platform)
  if target:
    memory = dataclasses.replace(memory, available=target.memory)
  used = len(placement.devices)
  where = f', of each of {used} devices' if used > 1 else ''
  where += f', on {target.name}' if target else ''
  print(f'memory of {len(runner.seeds)} seed(s){where}:\n{memory.table()}')
  memory.check()
