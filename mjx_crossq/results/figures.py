"""Figures of several runs in the layout of the paper (arXiv 2506.03758).

`task_grid` is its figure 3, `aggregate` its figure 2 with the interval chart
of Agarwal et al. (arXiv 2108.13264) below, `diagnostics` its figure 1.
"""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mjx_crossq.results import plotting
from mjx_crossq.results.axes import ENV_STEPS, Axis
from mjx_crossq.results.curves import LabelledCurves
from mjx_crossq.results.summaries import Aggregate, Band, over_seeds

if TYPE_CHECKING:
  from matplotlib.axes import Axes
  from matplotlib.figure import Figure

Bands = Mapping[str, Band]
"""Bands by label."""

_PANEL = (2.5, 2.0)  # inches
# Series with one of these in their name may have a logarithmic axis.
_MAGNITUDES = ('norm', 'loss', 'effective_lr')
_SCORE = 'IQM of return / 1000'


def task_grid(
  curves: LabelledCurves,
  tasks: Sequence[str],
  pooled: Mapping[str, Bands],
  axis: Axis = ENV_STEPS,
) -> 'Figure':
  """A panel per task; framed panels in the first column pool several tasks.

  Args:
    curves: returns by label and task.
    tasks: in the order of the panels.
    pooled: `over_tasks` by title and label.
    axis: that the curves are given over.
  """
  if len(tasks) == 1:
    pooled = {}  # these panels would show the same
  rows = max(len(pooled), min(3, -(-len(tasks) // 5)), -(-len(tasks) // 6))
  left = 1 if pooled else 0
  columns = left + -(-len(tasks) // rows)
  figure = _figure(columns, rows, curves)
  panels = figure.subplots(rows, columns, squeeze=False)
  for axes in panels.flat:
    axes.set_visible(False)
  for axes, (title, bands) in zip(panels[:, 0], pooled.items(), strict=False):
    _panel(axes, bands, curves, title)
    axes.set_ylabel(_SCORE, fontsize=8)
    axes.spines[:].set(visible=True, color='black', linewidth=1.6)
  for index, (axes, task) in enumerate(
    zip(panels[:, left:].flat, tasks, strict=False)
  ):
    _panel(axes, _seed_bands(curves, task), curves, task)
    if index % (columns - left) == 0:
      axes.set_ylabel('return (IQM)', fontsize=8)
  _label_x(panels, axis)
  notes = ['Tasks: IQM and 90 % range over runs.']
  if pooled:
    notes.append('Framed: IQM and 95 % bootstrap interval over tasks and runs.')
  _legend(figure, curves, ' '.join(notes))
  return figure


def seeds(
  curves: LabelledCurves, tasks: Sequence[str], axis: Axis = ENV_STEPS
) -> 'Figure':
  """A panel per task with a line per seed.

  Args:
    curves: values by label and task.
    tasks: in the order of the panels.
    axis: that the curves are given over.
  """
  columns = min(len(tasks), 5)
  rows = -(-len(tasks) // columns)
  figure = _figure(columns, rows, curves)
  panels = figure.subplots(rows, columns, squeeze=False)
  for axes in panels.flat:
    axes.set_visible(False)
  for axes, task in zip(panels.flat, tasks, strict=False):
    counts = [
      len(by_task[task].values)
      for by_task in curves.values()
      if task in by_task
    ]
    for row in range(max(counts)):
      _panel(axes, _one_seed(curves, task, row), curves, task, signed=True)
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
  for axes in panels[:, 0]:
    axes.set_ylabel('return', fontsize=8)
  _label_x(panels, axis)
  _legend(figure, curves, 'One line per seed.')
  return figure


def aggregate(
  curves: LabelledCurves,
  pooled: Mapping[str, Bands],
  compared: Mapping[str, Mapping[str, Aggregate]],
  step: float,
  axis: Axis = ENV_STEPS,
) -> 'Figure':
  """Pooled curves above, intervals of the statistics at one x below.

  Args:
    curves: returns by label and task, for the legend.
    pooled: `over_tasks` by title and label.
    compared: `compare` by the same titles.
    step: the x of the comparison.
    axis: that the curves are given over.
  """
  bar_height = 0.62 + 0.2 * len(curves)
  figure = plotting.new_figure(9.2, 3.3 + (bar_height + 0.25) * len(compared))
  heights = [2.7, *[bar_height] * len(compared)]
  grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
  parts = [figure.add_subfigure(cell) for cell in grid]
  for axes, (title, bands) in zip(
    np.atleast_1d(parts[0].subplots(1, len(pooled))),
    pooled.items(),
    strict=True,
  ):
    _panel(axes, bands, curves, title)
    axes.set_xlabel(axis.label, fontsize=9)
    axes.set_ylabel(_SCORE, fontsize=9)
  for part, (title, by_label) in zip(parts[1:], compared.items(), strict=True):
    _intervals(part, by_label, curves)
    part.suptitle(
      f'{title} at {axis.text(step)}', fontsize=9, fontweight='bold'
    )
  _legend(
    figure,
    curves,
    'IQM and 95 % stratified bootstrap intervals over tasks and runs.',
  )
  return figure


def diagnostics(
  series: Mapping[str, LabelledCurves],
  tasks: Sequence[str],
  axis: Axis = ENV_STEPS,
) -> 'Figure':
  """A row per series, a column per task: IQM and 90 % range over seeds.

  Args:
    series: curves by label and task, for each series by name; the first has
      every label.
    tasks: in the order of the columns.
    axis: that the curves are given over.
  """
  curves = next(iter(series.values()))
  figure = _figure(len(tasks), len(series), curves)
  panels = figure.subplots(len(series), len(tasks), squeeze=False, sharex='col')
  for row, (name, labelled) in zip(panels, series.items(), strict=True):
    bands = [_seed_bands(labelled, task) for task in tasks]
    logarithmic = _is_logarithmic(name, bands)
    for axes, of_task in zip(row, bands, strict=True):
      _panel(axes, of_task, curves, signed=True)
      if logarithmic:
        axes.set_yscale('log')
    row[0].set_ylabel(readable(name), fontsize=8)
  for axes, task in zip(panels[0], tasks, strict=True):
    axes.set_title(task, fontsize=9)
  figure.align_ylabels()
  _label_x(panels, axis)
  _legend(figure, curves, 'IQM and 90 % range over runs.')
  return figure


def readable(series: str) -> str:
  """The label of a series' axis: 'weight norm, l0' for diag/weight_norm/l0."""
  name = series.split('/', 1)[-1]
  return name.replace('/', ', ').replace('_', ' ')


def _figure(columns: int, rows: int, curves: LabelledCurves) -> 'Figure':
  width = max(_PANEL[0] * columns + 0.4, 5.0)
  return plotting.new_figure(
    width, _PANEL[1] * rows + 0.5 + 0.2 * _legend_rows(width, curves)
  )


def _panel(
  axes: 'Axes',
  bands: Bands,
  curves: LabelledCurves,
  title: str = '',
  signed: bool = False,
) -> None:
  """Draws lines with shaded ranges; the y axis starts at 0 unless `signed`."""
  styles = plotting.line_styles(list(curves))
  axes.set_visible(True)
  for label, band in bands.items():
    style = styles[label]
    marker = 'o' if len(band.steps) == 1 else None
    axes.plot(
      band.steps,
      band.middle,
      style.dash,
      color=style.colour,
      lw=1.4,
      marker=marker,
      ms=3,
    )
    axes.fill_between(
      band.steps, band.low, band.high, color=style.colour, alpha=0.2, lw=0
    )
  axes.set_title(title, fontsize=9)
  axes.tick_params(which='both', labelsize=7)
  axes.xaxis.set_major_formatter(plotting.short_number)
  axes.margins(x=0.02)
  axes.locator_params(axis='x', nbins=5)
  if signed and bands:
    axes.locator_params(axis='y', nbins=5)
  elif bands:
    axes.set_ylim(bottom=0)
  plotting.tidy(axes)


def _intervals(
  part, by_label: Mapping[str, Aggregate], curves: LabelledCurves
) -> None:
  """A panel per statistic: an interval per label, and a mark at the value."""
  names = list(next(iter(by_label.values())).values)
  styles = plotting.line_styles(list(curves))
  for axes, name in zip(
    part.subplots(1, len(names), sharey=True), names, strict=True
  ):
    for y, (label, found) in enumerate(by_label.items()):
      value, low, high = found.values[name]
      colour = styles[label].colour
      axes.barh(y, high - low, left=low, height=0.6, color=colour, alpha=0.45)
      axes.vlines(value, y - 0.3, y + 0.3, color=colour, lw=2)
    less = ', less is better' if name == 'optimality gap' else ''
    axes.set_title(name, fontsize=9)
    axes.set_xlabel('return / 1000' + less, fontsize=8)
    axes.use_sticky_edges = False
    axes.margins(x=0.08)
    axes.set_yticks(range(len(by_label)), list(by_label), fontsize=8)
    axes.set_ylim(len(by_label) - 0.5, -0.5)
    axes.tick_params(axis='x', labelsize=7)
    axes.tick_params(axis='y', length=0)
    axes.locator_params(axis='x', nbins=4)
    plotting.tidy(axes)
    axes.grid(visible=False, axis='y')


def _is_logarithmic(name: str, bands: Iterable[Bands]) -> bool:
  """Whether a series is a positive magnitude that spans a factor of 10."""
  if not any(kind in name for kind in _MAGNITUDES):
    return False
  lows, highs = [], []
  for by_label in bands:
    lows += [band.low.min() for band in by_label.values()]
    highs += [band.high.max() for band in by_label.values()]
  return 0 < 10 * min(lows) < max(highs)


def _label_x(panels: np.ndarray, axis: Axis) -> None:
  """Names the x axis below the last visible panel of each column."""
  for column in panels.T:
    last = [axes for axes in column if axes.get_visible()][-1:]
    for axes in last:
      axes.set_xlabel(axis.label, fontsize=8)


def _seed_bands(curves: LabelledCurves, task: str) -> dict[str, Band]:
  return {
    label: over_seeds(by_task[task])
    for label, by_task in curves.items()
    if task in by_task
  }


def _one_seed(curves: LabelledCurves, task: str, row: int) -> dict[str, Band]:
  """The line of one seed of each label, as a band of zero width."""
  found = {}
  for label, by_task in curves.items():
    if task in by_task and row < len(by_task[task].values):
      line = by_task[task].values[row]
      found[label] = Band(by_task[task].steps, line, line, line)
  return found


def _legend_columns(width: float, curves: LabelledCurves) -> int:
  longest = max(len(_with_runs(label, curves)) for label in curves)
  return max(1, min(len(curves), int(width / (0.075 * longest + 0.5))))


def _legend_rows(width: float, curves: LabelledCurves) -> int:
  return 1 + -(-len(curves) // _legend_columns(width, curves))


def _legend(figure: 'Figure', curves: LabelledCurves, note: str) -> None:
  """One legend below, whose title explains lines and shades."""
  from matplotlib.lines import Line2D

  figure.legend(
    handles=[
      Line2D(
        [],
        [],
        linewidth=1.8,
        label=_with_runs(label, curves),
        color=style.colour,
        linestyle=style.dash,
      )
      for label, style in plotting.line_styles(list(curves)).items()
    ],
    loc='outside lower center',
    ncols=_legend_columns(figure.get_figwidth(), curves),
    title=textwrap.fill(note, int(figure.get_figwidth() / 0.075)),
    title_fontsize=8,
    fontsize=8,
    frameon=False,
  )


def _with_runs(label: str, curves: LabelledCurves) -> str:
  """The label and its number of runs per task."""
  counts = {len(c.values) for c in curves[label].values()}
  runs = '-'.join(str(n) for n in sorted({min(counts), max(counts)}))
  return f'{label} ({runs} {"run" if runs == "1" else "runs"})'
