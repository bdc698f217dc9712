"""The learning curve of a run."""

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np

# Okabe and Ito's palette, which colour-blind readers can tell apart.
_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#D55E00', '#56B4E9')
_STYLES = {'dm_control': '-', 'mjx': ':', 'warp': ':'}


def read_returns(path: Path) -> dict[str, dict[int, dict[int, np.ndarray]]]:
  """Reads an `eval.csv`.

  Returns:
    Returns of the episodes by physics, seed and env step.
  """
  found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
  with path.open(encoding='utf-8', newline='') as file:
    for row in csv.DictReader(file):
      seed, step = int(row['seed']), int(row['env_step'])
      found[row['physics']][seed][step].append(float(row['episode_return']))
  return {
    physics: {
      seed: {step: np.array(values) for step, values in steps.items()}
      for seed, steps in seeds.items()
    }
    for physics, seeds in found.items()
  }


def learning_curve(eval_csv: Path, title: str, output: Path) -> None:
  """Draws mean return over env steps: a line a seed and physics.

  Args:
    eval_csv: what a run wrote.
    title: printed above.
    output: image file; the suffix decides the format.
  """
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  figure = Figure(figsize=(6.4, 4.0), layout='constrained')
  FigureCanvasAgg(figure)
  axes = figure.add_subplot()
  for physics, seeds in read_returns(eval_csv).items():
    for index, (seed, steps) in enumerate(sorted(seeds.items())):
      x = sorted(steps)
      axes.plot(
        x,
        [steps[step].mean() for step in x],
        _STYLES[physics],
        color=_COLOURS[index % len(_COLOURS)],
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
  axes.grid(alpha=0.3)
  axes.spines[['top', 'right']].set_visible(False)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize=8, frameon=False)
  figure.savefig(output, dpi=150)
