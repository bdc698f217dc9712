"""A run's files mirrored in TensorBoard and Weights & Biases.

`metrics.jsonl` and `eval.csv` are the record of a run; a tracker receives what
is appended to them. The series of a seed form a group such as `seed3`; their
means over the seeds form the group `mean`.
"""

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mjx_crossq.atomic import replace_text
from mjx_crossq.config import Config, ConfigError
from mjx_crossq.host.run_files import EVAL_HEADER

Values = dict[str, float]
_NOT_SERIES = ('seed', 'env_step')


class Sink(Protocol):
  """A tracker that receives series."""

  def write(self, kind: str, step: int, groups: Mapping[str, Values]) -> None:
    """Records values of one env step.

    Args:
      kind: 'metrics' or the physics of an evaluation; the env steps of each
        kind ascend.
      step: the env step.
      groups: values by series, by group.
    """
    ...

  def video(self, path: Path, step: int) -> None:
    """Records a GIF of the policy at an env step."""
    ...

  def close(self) -> None:
    """Finishes the record."""
    ...


class Follower:
  """Passes new records of a run's files to a sink.

  A sink that fails is not used any more; the run goes on, and its files are
  complete without it.
  """

  def __init__(
    self,
    workdir: Path,
    config: Config,
    open_sink: Callable[[Path, Config], Sink],
    report: Callable[[str], None] = print,
  ):
    """The sink is opened at the first call.

    Args:
      workdir: folder of the run; need not exist before the first call.
      config: of the run.
      open_sink: opens the sink.
      report: receives a line if the sink fails.
    """
    self._workdir, self._config = workdir, config
    self._open, self._report = open_sink, report
    self._sink: Sink | None = None
    self._failed = False
    self._metrics = _Tail(workdir / 'metrics.jsonl')
    self._returns = _Tail(workdir / 'eval.csv')

  def __call__(self, step: int) -> None:
    """Passes on what was appended; called as the run advances."""
    del step
    if not self._failed:
      self._try(self._follow)

  def video(self, path: Path, step: int) -> None:
    """Passes on a GIF of the policy.

    Args:
      path: the file.
      step: env step of the policy.
    """
    sink = self._sink
    if sink and not self._failed:
      self._try(lambda: sink.video(path, step))

  def close(self) -> None:
    """Passes on the last records and closes the sink, if it was opened."""
    if self._sink is None:
      return  # the run was refused; the folder may hold another run
    self(0)
    if not self._failed:
      self._try(self._sink.close)

  def _try(self, function: Callable[[], None]) -> None:
    try:
      function()
    except Exception as error:
      self._failed = True
      line = ' '.join(str(error).split())
      name = type(self._sink).__name__ if self._sink else 'a tracker'
      self._report(f'{name} failed ({line}); the run goes on without it')

  def _follow(self) -> None:
    if self._sink is None:
      self._sink = self._open(self._workdir, self._config)
    c = self._config
    for records in self._metrics.complete(_metric, c.num_seeds):
      groups = {
        f'seed{r["seed"]}': {
          name: value
          for name, value in r.items()
          if name not in _NOT_SERIES and value is not None
        }
        for r in records
      }
      self._sink.write('metrics', records[0]['env_step'], _with_mean(groups))
    count = c.num_seeds * c.eval_episodes
    for rows in self._returns.complete(_return, count):
      step, physics = rows[0]['env_step'], rows[0]['physics']
      by_seed = defaultdict(list)
      for row in rows:
        by_seed[f'seed{row["seed"]}'].append(float(row['episode_return']))
      groups = {
        seed: {f'eval/return_{physics}': float(np.mean(values))}
        for seed, values in by_seed.items()
      }
      self._sink.write(physics, step, _with_mean(groups))


class TensorBoard:
  """Event files in `tensorboard/` of the folder, a sub-folder for each group.

  When a run is resumed they are written again, from the run's files.
  """

  def __init__(self, workdir: Path, config: Config):
    """Removes the event files of an earlier process of the run.

    Args:
      workdir: of the run.
      config: recorded as text.
    """
    from tensorboardX import SummaryWriter

    self._folder = workdir / 'tensorboard'
    shutil.rmtree(self._folder, ignore_errors=True)
    self._make: Any = SummaryWriter
    self._writers: dict[str, Any] = {}
    text = json.dumps(config.to_dict(), indent=2).replace('\n', '\n    ')
    self._writer('mean').add_text('config', f'    {text}')

  def _writer(self, group: str) -> Any:
    if group not in self._writers:
      self._writers[group] = self._make(str(self._folder / group))
    return self._writers[group]

  def write(self, kind: str, step: int, groups: Mapping[str, Values]) -> None:
    """Writes the values to the event files of their groups."""
    del kind
    for group, values in groups.items():
      writer = self._writer(group)
      for name, value in values.items():
        writer.add_scalar(name, value, step)
      writer.flush()

  def video(self, path: Path, step: int) -> None:
    """Records the GIF as an image, which TensorBoard plays."""
    from PIL import Image
    from tensorboardX.proto import summary_pb2

    with Image.open(path) as gif:
      width, height = gif.size
    image = summary_pb2.Summary.Image(  # pyright: ignore
      encoded_image_string=path.read_bytes(),
      width=width,
      height=height,
      colorspace=3,
    )
    value = summary_pb2.Summary.Value(tag='policy', image=image)  # pyright: ignore
    summary = summary_pb2.Summary(value=[value])  # pyright: ignore
    self._writer('mean').file_writer.add_summary(summary, step)

  def close(self) -> None:
    """Closes the event files."""
    for writer in self._writers.values():
      writer.close()


class WandB:
  """One run of Weights & Biases; series are `<group>/<name>`.

  Records cannot be removed there. When a run is resumed from an earlier env
  step it produces the same records again; they are left out, up to the env
  step that `wandb.json` in the folder names, or to that which has arrived if it
  is earlier: the process may have been killed before it sent the rest.

  Offline nothing has arrived. A resumed run writes all records of its files
  again, and removes what its earlier processes wrote in `wandb/`.
  """

  def __init__(self, workdir: Path, config: Config, **settings: Any):
    """Starts the run, or resumes it.

    Args:
      workdir: of the run; its name becomes that of the run.
      config: recorded with the run.
      **settings: `project`, `group`, `mode`, passed on to `wandb.init`.
    """
    import wandb  # pyright: ignore[reportMissingImports]

    self._state_file = workdir / 'wandb.json'
    self._last: dict[str, int] = {}
    known, earlier = None, []
    if self._state_file.exists():
      stored = json.loads(self._state_file.read_text())
      known, self._last = stored['id'], stored['last']
      earlier = list(workdir.glob(f'wandb/offline-run-*-{known}'))
    self._run = wandb.init(
      dir=str(workdir),
      id=known,
      resume='allow',
      name=workdir.name,
      config=config.to_dict(),
      settings=wandb.Settings(quiet=True),
      **settings,
    )
    self._run.define_metric('*', step_metric='env_step')
    if settings.get('mode') == 'offline':
      self._last = {}
      for folder in earlier:
        shutil.rmtree(folder, ignore_errors=True)
    elif self._last:
      there = self._run.summary.get('env_step', -1)
      if there < max(self._last.values()):
        # Of its last env step a part may be missing.
        self._last = {k: min(v, there - 1) for k, v in self._last.items()}

  def write(self, kind: str, step: int, groups: Mapping[str, Values]) -> None:
    """Records values that are later than `wandb.json` names."""
    if step <= self._last.get(kind, -1):
      return
    values = {
      f'{group}/{name}': value
      for group, series in groups.items()
      for name, value in series.items()
    }
    self._run.log({'env_step': step, **values})
    self._last[kind] = step
    record = {'id': self._run.id, 'last': self._last}
    replace_text(self._state_file, json.dumps(record))

  def video(self, path: Path, step: int) -> None:
    """Records the GIF beside the series."""
    import wandb  # pyright: ignore[reportMissingImports]

    video = wandb.Video(str(path), format='gif')
    self._run.log({'env_step': step, 'policy': video})

  def close(self) -> None:
    """Ends the run there."""
    self._run.finish()


def check_wandb(mode: str) -> None:
  """Checks before the run that `wandb.init` will work.

  Args:
    mode: 'online' or 'offline'.

  Raises:
    ConfigError: the package is missing, or nobody is logged in.
  """
  try:
    import wandb  # pyright: ignore[reportMissingImports]
  except ImportError:
    raise ConfigError(
      '--wandb needs the extra logging: pip install .[logging]'
    ) from None
  if mode == 'online' and not wandb.api.api_key:
    raise ConfigError(
      '--wandb: nobody is logged in; `wandb login`, or --wandb_mode=offline'
    )


class _Tail:
  """Reads what was appended to a file since the last call, by groups."""

  def __init__(self, path: Path):
    self._path = path
    self._offset = 0
    self._open: list[tuple[Any, dict[str, Any]]] = []

  def complete(
    self,
    read: Callable[[str], tuple[Any, dict[str, Any]] | None],
    count: int,
  ) -> Iterator[Sequence[dict[str, Any]]]:
    """Yields the records of each key, in order, once all are in the file.

    Args:
      read: key and record of a line; None for a header.
      count: how many records a key has.
    """
    if not self._path.exists():
      return
    with self._path.open('rb') as file:
      file.seek(self._offset)
      text = file.read()
    text = text[: text.rfind(b'\n') + 1]
    self._offset += len(text)
    for line in text.decode('utf-8').splitlines():
      found = read(line)
      if found is None:
        continue
      key, record = found
      if self._open and self._open[0][0] != key:
        self._open = []  # an incomplete group that will not be completed
      self._open.append((key, record))
      if len(self._open) == count:
        yield [record for _, record in self._open]
        self._open = []


def _metric(line: str) -> tuple[Any, dict[str, Any]]:
  record = json.loads(line)
  return record['env_step'], record


def _return(line: str) -> tuple[Any, dict[str, Any]] | None:
  (cells,) = csv.reader([line])
  if tuple(cells) == EVAL_HEADER:
    return None
  row: dict[str, Any] = dict(zip(EVAL_HEADER, cells, strict=True))
  row['env_step'] = int(row['env_step'])
  return (row['env_step'], row['physics']), row


def _with_mean(groups: Mapping[str, Values]) -> dict[str, Values]:
  """The groups, and their mean over those that have a value."""
  found = defaultdict(list)
  for values in groups.values():
    for name, value in values.items():
      found[name].append(value)
  return {
    **groups,
    'mean': {name: float(np.mean(x)) for name, x in found.items()},
  }
