"""Recorded episodes as a web page with brax's 3D viewer.

The page contains the geoms and their motion; a browser loads the viewer's code
from the internet. The viewer draws geoms in plain colours, without sites,
tendons, skins and textures.
"""

import html
import importlib
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mjx_crossq.atomic import replace_text
from mjx_crossq.config import ConfigError
from mjx_crossq.envs import runtime
from mjx_crossq.policy.recording import Episode

with runtime.quiet():
  from brax.io import html as brax_html
  from brax.io import json as brax_json

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ margin: 1em; background: #18181b; color: #eee; font: 1em sans-serif }}
h1 {{ font-size: 1.1em; font-weight: normal }}
main {{ display: flex; flex-wrap: wrap; gap: 1em }}
figure {{ margin: 0; flex: 1 1 30em }}
iframe {{ width: 100%; height: {height}px; border: 0; background: #fff }}
</style>
</head>
<body>
<h1>{title}</h1>
<main>
{figures}
</main>
</body>
</html>
"""

_FIGURE = """<figure>
<figcaption>{caption}</figcaption>
<iframe title="{caption}" srcdoc="{page}"></iframe>
</figure>"""

_GEOM: Any = importlib.import_module('mujoco').mjtGeom
_SHOWN = (
  _GEOM.mjGEOM_PLANE,
  _GEOM.mjGEOM_SPHERE,
  _GEOM.mjGEOM_CAPSULE,
  _GEOM.mjGEOM_CYLINDER,
  _GEOM.mjGEOM_BOX,
  _GEOM.mjGEOM_MESH,
)
_HEIGHT = 480  # pixels
_HIDDEN_GROUP = 3  # MuJoCo shows the groups below


def write(
  episodes: Sequence[Episode], path: Path, title: str, every: int = 1
) -> None:
  """Writes a page with an interactive viewer for each episode.

  Args:
    episodes: one or more.
    path: the file; replaced if it exists.
    title: above the episodes.
    every: env steps from one pose on the page to the next.

  Raises:
    ConfigError: the viewer cannot show a geom of the model.
    WriteError: the file cannot be written.
  """
  figures = [
    _FIGURE.format(
      caption=html.escape(
        f'seed {e.seed}: return {e.returns[-1]:.1f} in {e.steps * e.dt:.2f} s'
      ),
      page=html.escape(viewer(e, every)),
    )
    for e in episodes
  ]
  page = _PAGE.format(
    title=html.escape(title), height=_HEIGHT, figures='\n'.join(figures)
  )
  replace_text(path, page)


def viewer(episode: Episode, every: int = 1) -> str:
  """Brax's page of one episode.

  Args:
    episode: the episode to show.
    every: env steps from one pose on the page to the next.

  Returns:
    HTML.

  Raises:
    ConfigError: the viewer cannot show a geom of the model.
  """
  return brax_html.render_from_json(
    trajectory(episode, every), height=_HEIGHT, colab=True, base_url=None
  )


def trajectory(episode: Episode, every: int = 1) -> str:
  """The model and its poses in the form that brax's viewer reads.

  `brax.io.mjcf.load_model` refuses models that brax cannot simulate, which are
  most of the suite. The viewer needs only those fields of its `System` that
  are copied here.

  Args:
    episode: the episode to show.
    every: env steps from one pose to the next.

  Returns:
    JSON.

  Raises:
    ConfigError: the viewer cannot show a geom of the model.
  """
  model = episode.physics.model.ptr
  poses = []
  for at in range(episode.steps % every, episode.steps + 1, every):
    data = episode.place(at).data
    pos, rot = np.array(data.xpos[1:]), np.array(data.xquat[1:])
    poses.append(
      types.SimpleNamespace(x=types.SimpleNamespace(pos=pos, rot=rot))
    )
  system: Any = _system(model)
  system.opt = types.SimpleNamespace(timestep=every * episode.dt)
  return brax_json.dumps(system, poses)


def _system(model: Any) -> types.SimpleNamespace:
  """The visible geoms, by the names of brax's `System`."""
  if model.nskin:
    raise ConfigError(
      "brax's viewer shows no skin, which the model has; "
      'take --format=gif or mp4'
    )
  rgba = _colors(model)
  shown = np.flatnonzero((rgba[:, 3] > 0) & (model.geom_group < _HIDDEN_GROUP))
  kind, size = np.array(model.geom_type), np.array(model.geom_size)
  mesh = np.array(model.geom_dataid)
  # The viewer's size of a plane is its sides, MuJoCo's is half of them.
  size[kind == int(_GEOM.mjGEOM_PLANE), :2] *= 2
  meshes = _Meshes(model)
  for geom in shown:
    if _GEOM(kind[geom]) == _GEOM.mjGEOM_ELLIPSOID:
      kind[geom], mesh[geom] = int(_GEOM.mjGEOM_MESH), meshes.add(size[geom])
    if _GEOM(kind[geom]) not in _SHOWN:
      name = _GEOM(kind[geom]).name.removeprefix('mjGEOM_').lower()
      raise ConfigError(
        f"brax's viewer shows no {name}, as the geom "
        f'{model.geom(geom).name or geom!r} is; take --format=gif or mp4'
      )
  return types.SimpleNamespace(
    link_names=[model.body(i).name for i in range(1, model.nbody)],
    ngeom=len(shown),
    geom_bodyid=model.geom_bodyid[shown],
    geom_type=kind[shown],
    geom_pos=model.geom_pos[shown],
    geom_quat=model.geom_quat[shown],
    geom_size=size[shown],
    geom_dataid=mesh[shown],
    mj_model=types.SimpleNamespace(geom_rgba=rgba[shown], **vars(meshes)),
  )


def _colors(model: Any) -> np.ndarray:
  """Colours of geoms, `(ngeom, 4)`; those of textures are averaged."""
  rgba = np.array(model.geom_rgba)
  # As in MuJoCo, a geom's own colour is used unless it is the default.
  plain = (rgba == [0.5, 0.5, 0.5, 1]).all(axis=1) & (model.geom_matid >= 0)
  for geom in np.flatnonzero(plain):
    material = model.geom_matid[geom]
    rgba[geom] = model.mat_rgba[material]
    texture = model.mat_texid[material].max()
    if texture >= 0 and model.tex_nchannel[texture] >= 3:
      channels = model.tex_nchannel[texture]
      count = channels * model.tex_height[texture] * model.tex_width[texture]
      start = model.tex_adr[texture]
      texels = model.tex_data[start : start + count].reshape(-1, channels)
      rgba[geom, :3] *= texels[:, :3].mean(axis=0) / 255
  return rgba


class _Meshes:
  """A model's meshes, to which more can be added, by its fields' names."""

  def __init__(self, model: Any):
    self.nmesh = model.nmesh
    self.mesh_face, self.mesh_vert = model.mesh_face, model.mesh_vert
    self.mesh_faceadr, self.mesh_vertadr = (
      model.mesh_faceadr,
      model.mesh_vertadr,
    )

  def add(self, radii: np.ndarray) -> int:
    """Adds an ellipsoid, which the viewer cannot draw; returns its number."""
    vert, face = _sphere()
    self.mesh_faceadr = np.append(self.mesh_faceadr, len(self.mesh_face))
    self.mesh_vertadr = np.append(self.mesh_vertadr, len(self.mesh_vert))
    self.mesh_face = np.concatenate([self.mesh_face, face])
    self.mesh_vert = np.concatenate([self.mesh_vert, vert * radii])
    self.nmesh += 1
    return self.nmesh - 1


def _sphere(rings: int = 10, sides: int = 16) -> tuple[np.ndarray, np.ndarray]:
  """Vertices of a unit sphere, and triangles seen from outside."""
  polar = np.linspace(0, np.pi, rings + 1)[:, None]
  around = np.linspace(0, 2 * np.pi, sides, endpoint=False)
  x, y = np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around)
  z = np.cos(polar) + 0 * around
  vert = np.stack([x, y, z], axis=-1).reshape(-1, 3)
  above = np.arange(rings * sides).reshape(rings, sides)
  beside, below = np.roll(above, -1, axis=1), above + sides
  corner = beside + sides
  halves = [(above, below, corner), (above, corner, beside)]
  face = [np.stack(half, axis=-1).reshape(-1, 3) for half in halves]
  return vert, np.concatenate(face)
