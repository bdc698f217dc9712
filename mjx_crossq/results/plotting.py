"""The style of all figures, and the learning curve of a run."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mjx_crossq.config import ConfigError
from mjx_crossq.results.curves import read_returns

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Dash = Literal['-', '--', ':', '-.']

# Okabe and Ito's palette, which colour-blind readers can tell apart; its
# yellow is too pale for lines on white.
COLOURS = (
  '#0072B2',
  '#E69F00',
  '#009E73',
  '#CC79A7',
  '#D55E00',
  '#56B4E9',
  '#000000',
)
_DASHES: tuple[Dash, ...] = ('-', '--', ':', '-.')
_STYLES = {'dm_control': '-', 'mjx': ':', 'warp': ':'}


def new_figure(width: float, height: float) -> 'Figure':
  """An empty figure that needs no display.

  Args:
    width: in inches.
    height: in inches.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(width, height), layout='constrained')
  FigureCanvasAgg(figure)
  return figure


def tidy(axes: 'Axes') -> None:
  """Draws a light grid and removes the frame."""
  axes.grid(alpha=0.3)
  axes.spines[['top', 'right']].set_visible(False)


class Style(NamedTuple):
  """Style of a label's lines."""

  colour: str
  dash: Dash


def line_styles(labels: Sequence[str]) -> dict[str, Style]:
  """A colour for each label; labels of the same colour differ in their dashes.

  Args:
    labels: in the order of the colours.
  """
  count = len(COLOURS)
  return {
    label: Style(COLOURS[i % count], _DASHES[i // count % len(_DASHES)])
    for i, label in enumerate(labels)
  }


def short_number(x: float, _: object = None) -> str:
  """A number of env steps for a narrow axis: 0, 500, 25k, 1.5M."""
  for unit, suffix in ((1e6, 'M'), (1e3, 'k')):
    if abs(x) >= unit:
      return f'{x / unit:.6g}{suffix}'
  return f'{x:.6g}'


def save(figure: 'Figure', stem: Path) -> list[Path]:
  """Writes a figure as PNG, and as SVG with its text as text.

  Args:
    figure: the figure.
    stem: the files' path without the suffix.

  Returns:
    The files.

  Raises:
    ConfigError: they cannot be written.
  """
  files = [stem.with_name(f'{stem.name}.{kind}') for kind in ('png', 'svg')]
  for file in files:
    try:
      if file.suffix == '.svg':
        file.write_bytes(svg(figure))
      else:
        figure.savefig(file, dpi=150)
    except OSError as error:
      raise ConfigError(f'cannot write {file}: {error.strerror}') from None
  return files


def svg(figure: 'Figure') -> bytes:
  """A figure as SVG; the same figure gives the same bytes."""
  import matplotlib

  file = io.BytesIO()
  # Neither a date nor random identifiers.
  with matplotlib.rc_context(
    {'svg.fonttype': 'none', 'svg.hashsalt': 'mjx_crossq'}
  ):
    figure.savefig(file, format='svg', metadata={'Date': None})
  return file.getvalue()


def learning_curve(eval_csv: Path, title: str, output: Path) -> None:
  """Draws mean return over env steps, with a line per seed and physics.

  Args:
    eval_csv: the file of a run.
    title: printed above.
    output: image file; the suffix determines the format.
  """
  figure = new_figure(6.4, 4.0)
  axes = figure.add_subplot()
  for physics, seeds in read_returns(eval_csv).items():
    for index, (seed, steps) in enumerate(sorted(seeds.items())):
      x = sorted(steps)
      axes.plot(
        x,
        [steps[step].mean() for step in x],
        _STYLES[physics],
        color=COLOURS[index % len(COLOURS)],
        marker='o',
        markersize=3,
        label=f'seed {seed}, {physics}' if len(seeds) <= 6 else None,
      )
  axes.set(
    xlabel='env steps',
    ylabel='return (mean over evaluation episodes)',
    title=title,
    ylim=(0, None),
  )
  axes.xaxis.set_major_formatter(lambda x, _: f'{x:,.0f}')
  tidy(axes)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize=8, frameon=False)
  figure.savefig(output, dpi=150)
