"""The figure of `launch.benchmark --sweep`: cost over one setting."""

from typing import Any

from mjx_crossq.results import plotting

_LABELS = {
  'num_seeds': 'seeds in one program',
  'num_envs': 'environments per seed',
  'utd': 'updates per decision (UTD)',
  'critic_width': 'critic width',
  'replay_capacity': 'replay capacity in env steps',
}


def draw(rows: list[dict[str, Any]], field: str, output: str) -> None:
  """Draws milliseconds and updates over one setting.

  Args:
    rows: results of `cases.measure`, in the order of the setting.
    field: the setting.
    output: image file; the suffix decides the format.
  """
  figure = plotting.new_figure(8.4, 3.6)
  x = [row[field] for row in rows]
  panels = (
    ('ms_per_iteration', 'ms per iteration', 'with all seeds'),
    ('seed_updates_per_second', 'updates per second', 'of all seeds'),
  )
  for index, (name, label, note) in enumerate(panels):
    axes = figure.add_subplot(1, 2, index + 1)
    y = [row[name] for row in rows]
    axes.plot(x, y, 'o-', color=plotting.COLOURS[0], label='measured')
    if index == 0 and field != 'replay_capacity':
      axes.plot(
        x,
        [y[0] * value / x[0] for value in x],
        ':',
        color='#999999',
        label='in proportion',
      )
      axes.legend(frameon=False, fontsize=8)
    axes.set(xscale='log', yscale='log', xlabel=_LABELS[field])
    axes.set_ylabel(f'{label}\n{note}')
    axes.set_xticks(x, [f'{value:,}' for value in x])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f'{value:,.4g}')
    axes.set_ylim(min(y) / 2, max(y) * 2)
    plotting.tidy(axes)
  row = rows[0]
  figure.suptitle(f'{row["task"]}, {row["preset"]}', fontsize=10)
  figure.savefig(output, dpi=150)
