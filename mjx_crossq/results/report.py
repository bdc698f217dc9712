"""An HTML page about several runs, without network access or other files."""

import base64
import html
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mjx_crossq import versions as versions_lib
from mjx_crossq.config import from_preset
from mjx_crossq.results import plotting
from mjx_crossq.results.curves import Run

if TYPE_CHECKING:
  from matplotlib.figure import Figure

MAX_VIDEO_BYTES = 20 * 2**20
"""Larger videos are listed by name only."""
_VIDEOS = {'.gif': 'image/gif', '.mp4': 'video/mp4', '.webm': 'video/webm'}

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 76rem;
  padding: 0 1rem 4rem; }
nav { position: sticky; top: 0; background: Canvas; padding: .6rem 0;
  border-bottom: 1px solid var(--line); }
nav a { margin-right: 1.2rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .8rem .25rem 0; text-align: left;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number, th.number { text-align: right; }
.scroll { overflow-x: auto; }
figure { margin: 1rem 0; background: #fff; color: #222; border-radius: 6px;
  padding: .5rem; width: fit-content; max-width: 100%; box-sizing: border-box; }
figure img, figure video { max-width: 100%; height: auto; display: block; }
figcaption { font-size: .85rem; }
.videos { display: flex; flex-wrap: wrap; gap: 1rem; }
summary { cursor: pointer; margin: .4rem 0; }
"""


def page(title: str, sections: Mapping[str, str]) -> str:
  """The page.

  Args:
    title: of the page, plain text.
    sections: HTML by heading; empty ones are left out.
  """
  shown = {name: body for name, body in sections.items() if body}
  links = ''.join(
    f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in shown
  )
  body = ''.join(
    f'<section id="{_anchor(name)}"><h2>{html.escape(name)}</h2>{text}'
    '</section>\n'
    for name, text in shown.items()
  )
  title = html.escape(title)
  return (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{title}</title><style>{_STYLE}</style></head>\n'
    f'<body><h1>{title}</h1><nav>{links}</nav>\n{body}</body></html>\n'
  )


def figure(drawn: 'Figure', alt: str, caption: str = '') -> str:
  """A figure as SVG.

  Args:
    drawn: the figure.
    alt: what it shows, for readers who cannot see it.
    caption: below it.
  """
  source = _data('image/svg+xml', plotting.svg(drawn))
  return _figure(
    f'<img src="{source}" alt="{html.escape(alt, quote=True)}">', caption
  )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """A table; numbers have thousands' separators.

  Args:
    header: one cell per column.
    rows: likewise.
  """

  def cell(value, tag):
    kind, text = '', str(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
      kind = ' class="number"'
      text = f'{value:,}' if isinstance(value, int) else f'{value:,.1f}'
    return f'<{tag}{kind}>{html.escape(text)}</{tag}>'

  lines = [''.join(cell(name, 'th') for name in header)]
  lines += [''.join(cell(value, 'td') for value in row) for row in rows]
  body = ''.join(f'<tr>{line}</tr>' for line in lines)
  return f'<div class="scroll"><table>{body}</table></div>'


def overview(runs: Sequence[Run], labels: Sequence[str]) -> str:
  """A table with the progress and the last returns of each run.

  Args:
    runs: the runs.
    labels: their labels.
  """
  rows = []
  for run, label in zip(runs, labels, strict=True):
    traces = run.returns()
    steps = [max(trace) for trace in traces.values()]
    last = np.array([trace[max(trace)] for trace in traces.values()])
    seconds = max(
      (x for trace in _elapsed(run).values() for x in trace.values()),
      default=float('nan'),
    )
    rows.append(
      {
        'task': run.config.task,
        'run': label,
        'seeds': len(traces),
        'env steps': min(steps),
        'of': run.config.env_steps,
        'mean return': float(last.mean()),
        'seeds from, to': f'{last.min():.1f} to {last.max():.1f}',
        'time': 'unknown' if np.isnan(seconds) else f'{seconds / 60:,.1f} min',
        'folder': str(run.workdir),
      }
    )
  return table(list(rows[0]), [list(row.values()) for row in rows])


def configuration(run: Run, label: str) -> str:
  """A run's changes of its preset, all its settings, and the versions.

  Args:
    run: the run.
    label: its label.
  """
  settings, versions = run.config.to_dict(), run.versions
  preset = from_preset(run.config.preset).to_dict()
  changed = [
    (name, value, preset[name])
    for name, value in settings.items()
    if value != preset[name]
  ]
  name = html.escape(f'{run.config.task}, {label}: {run.workdir}')
  return (
    f'<details><summary>{name}</summary>'
    '<h3>Changes of the preset</h3>'
    + (table(('field', 'value', 'preset'), changed) if changed else 'None.')
    + '<h3>All settings</h3>'
    + table(('field', 'value'), settings.items())
    + '<h3>Versions</h3>'
    + table(('package', 'version'), versions.items())
    + _changes(run)
    + '</details>'
  )


def _changes(run: Run) -> str:
  """The versions that changed while the run was trained, by env step."""
  history = versions_lib.read_history(run.workdir / 'config.json')
  rows = [
    (new['env_step'], versions_lib.changes(old['versions'], new['versions']))
    for old, new in itertools.pairwise(history)
  ]
  return table(('from env step', 'other versions'), rows) if rows else ''


def videos(run: Run) -> str:
  """The videos in a run's folder and its `videos/`.

  Deeper folders are left out, because trackers keep copies there.

  Args:
    run: the run.
  """
  shown = []
  found = *run.workdir.glob('*'), *run.workdir.glob('videos/*')
  for path in sorted(found):
    kind = _VIDEOS.get(path.suffix)
    if kind is None or not path.is_file():
      continue
    caption = f'{run.config.task}: {path.relative_to(run.workdir)}'
    if path.stat().st_size > MAX_VIDEO_BYTES:
      note = f'{caption} is larger than {MAX_VIDEO_BYTES >> 20} MiB'
      shown.append(f'<p>{html.escape(note)}</p>')
      continue
    source = _data(kind, path.read_bytes())
    if kind.startswith('image'):
      element = f'<img src="{source}" alt="{html.escape(caption, quote=True)}">'
    else:
      element = f'<video src="{source}" controls muted loop></video>'
    shown.append(_figure(element, caption))
  return f'<div class="videos">{"".join(shown)}</div>' if shown else ''


def _elapsed(run: Run) -> Any:
  series = run.metrics(['time/elapsed_seconds'])
  return series.get('time/elapsed_seconds', {})


def _figure(element: str, caption: str) -> str:
  below = f'<figcaption>{html.escape(caption)}</figcaption>' if caption else ''
  return f'<figure>{element}{below}</figure>'


def _data(kind: str, content: bytes) -> str:
  return f'data:{kind};base64,{base64.b64encode(content).decode()}'


def _anchor(name: str) -> str:
  return name.lower().replace(' ', '-')
