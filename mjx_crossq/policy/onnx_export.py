"""A policy's layers as an ONNX model; needs the extra `export`."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

_OPSET, _IR = 17, 10
"""Opset 17 is the first with LayerNormalization; older runtimes read it too."""


def write(
  path: Path,
  layers: Sequence[tuple[str, Mapping[str, np.ndarray]]],
  low: np.ndarray,
  high: np.ndarray,
  meta: Mapping[str, Any],
) -> Callable[[np.ndarray], np.ndarray]:
  """Writes a model from `observation` to `action`, float32, any rows.

  Args:
    path: the file.
    layers: as `export.Exporter.layers` has them.
    low: lower bounds of an action, `(action_size,)`.
    high: upper bounds, `(action_size,)`.
    meta: written to the model's properties as JSON, by key.

  Returns:
    The policy, read back from the file by onnxruntime.
  """
  graph = _Graph()
  x = graph.body('observation', layers)
  x = graph.add('Tanh', x)
  half, center = (high - low) / 2, (high + low) / 2
  x = graph.add('Add', graph.add('Mul', x, half), center)
  graph.add('Min', graph.add('Max', x, low), high, output='action')
  types = [
    onnx.helper.make_tensor_value_info(
      name, onnx.TensorProto.FLOAT, ['rows', size]
    )
    for name, size in (
      ('observation', sum(int(np.prod(s)) for _, s in meta['observation'])),
      ('action', low.size),
    )
  ]
  model = onnx.helper.make_model(
    onnx.helper.make_graph(
      graph.nodes, 'policy', types[:1], types[1:], graph.constants
    ),
    opset_imports=[onnx.helper.make_opsetid('', _OPSET)],
    ir_version=_IR,
    producer_name='mjx_crossq',
  )
  properties = {k: json.dumps(v) for k, v in meta.items()}
  onnx.helper.set_model_props(model, properties)
  onnx.checker.check_model(model)
  onnx.save(model, path)
  session = onnxruntime.InferenceSession(
    str(path), providers=['CPUExecutionProvider']
  )

  def act(obs: np.ndarray) -> np.ndarray:
    (action,) = session.run(None, {'observation': np.float32(obs)})
    return np.asarray(action)

  return act


class _Graph:
  """Nodes and constants of a model that is being built."""

  def __init__(self):
    self.nodes: list[Any] = []
    self.constants: list[Any] = []

  def add(
    self, kind: str, *inputs: Any, output: str = '', **attributes: Any
  ) -> str:
    """Adds an operation of values (by name) and constants (arrays)."""
    names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
    output = output or f'value{len(self.nodes)}'
    make = onnx.helper.make_node
    self.nodes.append(make(kind, names, [output], **attributes))
    return output

  def body(self, x: str, layers: Any) -> str:
    """Adds the layers, which are those that `numpy_policy` computes."""
    skips = []
    for kind, p in layers:
      if kind == 'dense':
        x = self.add('Gemm', x, p['kernel'], p['bias'])
      elif kind == 'relu':
        x = self.add('Relu', x)
      elif kind == 'normalize':
        x = self.add('Mul', self.add('Sub', x, p['mean']), p['scale'])
        x = self.add('Add', x, p['bias'])
      elif kind == 'layer_norm':
        eps = float(p['eps'])
        scale, bias = p['scale'], p['bias']
        x = self.add('LayerNormalization', x, scale, bias, epsilon=eps)
      elif kind == 'rms_norm':
        square = self.add('ReduceMean', self.add('Mul', x, x), axes=[-1])
        root = self.add('Sqrt', self.add('Add', square, p['eps']))
        x = self.add('Mul', self.add('Div', x, root), p['scale'])
      elif kind == 'keep':
        skips.append(x)
      elif kind == 'add':
        x = self.add('Add', x, skips.pop())
      else:
        raise ValueError(f'no layer {kind!r} in ONNX')
    return x

  def _constant(self, value: Any) -> str:
    name = f'constant{len(self.constants)}'
    array = np.ascontiguousarray(np.float32(value))
    tensor = onnx.numpy_helper.from_array(array, name)
    self.constants.append(tensor)
    return name
