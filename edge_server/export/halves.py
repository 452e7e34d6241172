"""Weights of a graph in 16 bits where that loses nothing, or little: half the bytes on disk and on air.

A graph goes on computing in float32: what is stored as a half is widened when a session opens it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Tensors of fewer elements are not worth a node.
MIN_ELEMENTS = 1024
_SUFFIX = "_half"


def store_halves(path: Path, *, exact: bool = True) -> int:
    """Store weights as halves, in place.

    Args:
        path: the graph.
        exact: only such weights as halves hold without any loss.

    Returns:
        Bytes that were saved.
    """
    model = onnx.load(str(path))
    graph = model.graph
    saved, casts = 0, []
    for tensor in list(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < MIN_ELEMENTS:
            continue
        whole = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = whole.astype(np.float16)
        if not np.isfinite(half).all() or (exact and not np.array_equal(half.astype(np.float32), whole)):
            continue
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(half, name + _SUFFIX))
        casts.append(helper.make_node("Cast", [name + _SUFFIX], [name], to=TensorProto.FLOAT))
        saved += half.nbytes
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.save(model, str(path))
    return saved


def widened(path: Path) -> onnx.ModelProto:
    """A graph with all of its weights in float32 again."""
    model = onnx.load(str(path))
    graph = model.graph
    halves = {tensor.name: tensor for tensor in graph.initializer if tensor.name.endswith(_SUFFIX)}
    for node in list(graph.node):
        if node.op_type == "Cast" and node.input[0] in halves:
            tensor = halves[node.input[0]]
            whole = numpy_helper.to_array(tensor).astype(np.float32)
            graph.initializer.remove(tensor)
            graph.initializer.append(numpy_helper.from_array(whole, node.output[0]))
            graph.node.remove(node)
    return model
