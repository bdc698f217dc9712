"""`launch.report`: one page, with everything in it."""

import base64
import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib import image

from mjx_crossq.results import curves, figures

from . import programs
from .test_plot import write

_CHROMIUM = next(
  filter(None, map(shutil.which, ('chromium', 'google-chrome'))), None
)


class Page(html.parser.HTMLParser):
  """Checks that elements are closed, and gathers what a reader sees."""

  def __init__(self, text):
    super().__init__()
    self.open, self.ids, self.links, self.sources = [], [], [], []
    self.rows, self.headings, self.alts = [], [], []
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    if tag not in ('meta', 'img'):
      self.open.append(tag)
    self.ids += [attrs['id']] if 'id' in attrs else []
    self.links += [attrs['href']] if 'href' in attrs else []
    self.sources += [attrs['src']] if 'src' in attrs else []
    self.alts += [attrs['alt']] if tag == 'img' else []
    if tag == 'tr':
      self.rows.append([])

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open and self.open[-1] in ('td', 'th'):
      self.rows[-1].append(data)
    elif self.open and self.open[-1] == 'h2':
      self.headings.append(data)


@pytest.fixture(scope='module')
def page(tmp_path_factory):
  folder = tmp_path_factory.mktemp('report')
  first = write(folder / 'a', (300, 500), utd=2)
  write(folder / 'b <i>', (100, 700), utd=8, seed=5)
  (first / 'policy.gif').write_bytes(b'GIF89a, say')
  copies = first / 'wandb' / 'media'  # a tracker's, not shown again
  copies.mkdir(parents=True)
  (copies / 'policy.gif').write_bytes(b'GIF89a, say')
  output = folder / 'report.html'
  done = programs.run(
    'report',
    f'--workdirs={folder}/*',
    '--baselines=BRO_utd10',
    f'--output={output}',
    '--title=Dogs & cats',
    '--replicates=20',
  )
  assert done.returncode == 0, done.stderr
  return output


def test_page_is_whole_and_needs_nothing_else(page):
  text = page.read_text()
  found = Page(text)
  assert found.headings == [
    'Runs',
    'Returns',
    'Videos',
    'Diagnostics',
    'Configuration',
  ]
  assert found.links == [f'#{name}' for name in found.ids]
  assert all(source.startswith('data:') for source in found.sources)
  assert not re.findall(r'url\(|@import|<script|<link', text)
  assert '<title>Dogs &amp; cats</title>' in text
  kinds = [source.split(';')[0][5:] for source in found.sources]
  assert kinds == ['image/svg+xml'] * 3 + ['image/gif', 'image/svg+xml']
  assert all(found.alts)
  gif = next(s for s in found.sources if 'image/gif' in s)
  assert base64.b64decode(gif.split(',')[1]) == b'GIF89a, say'


def test_page_shows_returns_and_configuration(page):
  found = Page(page.read_text()).rows
  assert ['utd', '8', '10'] in found  # another than the preset's
  rows = {tuple(row[:2]): row for row in found}
  first = rows['walker-run', 'crossq_wn, UTD 2']
  assert first[2:7] == ['2', '30,000', '1,000,000', '400.0', '300.0 to 500.0']
  second = rows['walker-run', 'crossq_wn, UTD 8']
  assert second[5:7] == ['400.0', '100.0 to 700.0']
  assert second[8].endswith('b <i>')


def test_curves_over_updates(page, tmp_path):
  output = tmp_path / 'report.html'
  done = programs.run(
    'report',
    f'--workdirs={page.parent}/a',
    '--x=updates',
    f'--output={output}',
    '--replicates=20',
  )
  assert done.returncode == 0, done.stderr
  alts = Page(output.read_text()).alts
  assert sum('over updates' in alt for alt in alts) == 3
  assert not any('env steps' in alt for alt in alts)


def test_wrong_input_is_named(page):
  runs = f'--workdirs={page.parent}/a'
  programs.check_errors(
    'report',
    {
      (): '--workdirs is needed',
      (f'--workdirs={page.parent}/nothing*',): 'matches no folder',
      (runs, '--output=report.pdf'): 'must end in .html',
      (runs, '--x=wall', '--baselines=BRO_utd10'): 'leave --baselines out',
      (runs, '--output=/no/such/report.html'): 'create it first',
    },
  )


def test_seeds_are_lines_of_their_own(tmp_path):
  runs = [
    curves.Run.read(write(tmp_path / 'a', (300, 500, 900), utd=2)),
    curves.Run.read(write(tmp_path / 'b', (100, 700), utd=8, seed=5)),
  ]
  found = figures.seeds(curves.evaluations(runs), ['walker-run'])
  (axes,) = found.axes
  ends = sorted(float(line.get_ydata()[-1]) for line in axes.lines)
  assert ends == [100, 300, 500, 700, 900]
  assert axes.get_ylim()[1] > 900


@pytest.mark.skipif(_CHROMIUM is None, reason='no Chromium')
def test_page_in_a_browser(page, tmp_path):
  shot = tmp_path / 'page.png'
  subprocess.run(
    [
      str(_CHROMIUM),
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--host-resolver-rules=MAP * ~NOTFOUND',
      '--window-size=1280,2000',
      f'--screenshot={shot}',
      page.as_uri(),
    ],
    check=True,
    capture_output=True,
    timeout=120,
  )
  pixels = image.imread(shot)[..., :3]
  assert pixels.shape == (2000, 1280, 3)
  # The colours of the two runs' lines, of which the page is the only source.
  for colour in ((0, 0x72, 0xB2), (0xE6, 0x9F, 0)):
    near = np.abs(pixels - np.array(colour) / 255).max(axis=-1) < 0.04
    assert near.sum() > 200
