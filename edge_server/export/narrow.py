"""Weights of a graph in integers of few bits, a scale for each of their output channels; sums stay float32.

    float32 [out, ...] ─▶ integers, packed into bytes ─ file ─▶ unpacked, times scales ─▶ float32

What unpacks them are operators on constants: a session computes them once, when it opens the graph, and from
then on it is as fast, and as large in memory, as one of the float32 graph. So nothing has to be known of
activations, and no product loses more than its weights do: for encoders whose activations integers are too
coarse for. Names inside the graph become short: they are a part of its bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_server.errors import ExportError
from edge_server.export.halves import MIN_ELEMENTS, store_halves, widened

#: Of an encoder's nodes: see :mod:`edge_server.export.quantization`.
_ENCODER = "/encoder/"
_BITS = (4, 6, 8)
#: Of a tensor that stays as it is, as a half: those with few elements weigh little, and an error in the first
#: layers goes through all the others.
AS_HALVES = 16
# Parts of the largest weight of a channel at which rounding is tried to begin.
_CLIPS = np.linspace(0.6, 1.0, 21)

Floats = npt.NDArray[np.float32]
Bits = Callable[[int], int]
"""From how many elements a tensor has to how many bits one of them gets."""


def narrow(source: Path, target: Path, bits: Bits = lambda size: 8) -> int:
    """Write a graph with an encoder's weights as integers, everything else in 16 bits where it is large.

    Args:
        source: the graph, in float32 or with halves.
        target: where the other goes.
        bits: 4, 6 or 8, by the size of a tensor; :data:`AS_HALVES`: it does not become integers.

    Returns:
        How many tensors became integers.

    Raises:
        ExportError: there is none that could.
    """
    model = widened(source)
    graph = model.graph
    axes = _channel_axes(graph)
    nodes: list[onnx.NodeProto] = []
    count = 0
    for tensor in list(graph.initializer):
        axis = axes.get(tensor.name)
        if axis is None:
            continue
        whole = numpy_helper.to_array(tensor)
        width = bits(whole.size)
        if width == AS_HALVES:
            continue
        if whole.size % 4:
            width = 8
        graph.initializer.remove(tensor)
        count += 1
        constants, made = _stored(tensor.name, whole, axis, width)
        graph.initializer.extend(constants)
        nodes += made
    if not nodes:
        raise ExportError(f"{source.name}: holds no weights that could be integers")
    for node in reversed(nodes):
        graph.node.insert(0, node)
    _hoist(graph)
    _shorten(graph)
    onnx.save(model, str(target))
    store_halves(target, exact=False)
    onnx.checker.check_model(str(target))
    return count


def rounded(whole: Floats, axis: int, bits: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """Integers and scales that are nearest to weights in squares, symmetric around zero.

    Args:
        whole: weights.
        axis: of output channels, each of which has a scale.
        bits: of an integer.

    Returns:
        Integers of the same shape, and scales that they are multiplied by.
    """
    most = 2 ** (bits - 1) - 1
    rest = tuple(i for i in range(whole.ndim) if i != axis)
    largest = np.maximum(np.abs(whole).max(axis=rest, keepdims=True), 1e-12)
    best, scales = np.full(largest.shape, np.inf), largest / most
    for part in _CLIPS:
        tried = (largest * part / most).astype(np.float32)
        error = np.square(np.clip(np.rint(whole / tried), -most, most) * tried - whole)
        lost = error.sum(axis=rest, keepdims=True)
        scales, best = np.where(lost < best, tried, scales), np.minimum(lost, best)
    scales = scales.astype(np.float32)
    return np.clip(np.rint(whole / scales), -most, most).astype(np.int8), scales


def _channel_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """Large constants that only products of the encoder read, and which axis is that of what they give."""
    sizes = {tensor.name: len(tensor.dims) for tensor in graph.initializer if _is_large(tensor)}
    axes: dict[str, int] = {}
    elsewhere: set[str] = set()
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in sizes:
                continue
            axis = _axis(node, sizes[name]) if place == 1 and node.name.startswith(_ENCODER) else None
            if axis is None or axes.setdefault(name, axis) != axis:
                elsewhere.add(name)
    return {name: axis for name, axis in axes.items() if name not in elsewhere}


def _is_large(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= MIN_ELEMENTS


def _axis(node: onnx.NodeProto, dimensions: int) -> int | None:
    if node.op_type == "Conv":
        return 0
    if node.op_type == "MatMul" and dimensions == 2:
        return 1
    if node.op_type == "Gemm":
        return 0 if any(each.name == "transB" and each.i for each in node.attribute) else 1
    return None


def _stored(
    name: str, whole: Floats, axis: int, bits: int
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Constants of a tensor, and what makes the tensor of them."""
    if bits not in _BITS:
        raise ExportError(f"{bits} bits for a weight; allowed: {', '.join(map(str, _BITS))}")
    integers, scales = rounded(whole, axis, bits)
    constants = [numpy_helper.from_array(scales, f"{name}_scales")]
    if bits == 8:
        constants.append(numpy_helper.from_array(integers, f"{name}_integers"))
        nodes = [helper.make_node("Cast", [f"{name}_integers"], [f"{name}_whole"], to=TensorProto.FLOAT)]
    else:
        middle = 2 ** (bits - 1)
        digits = (integers.astype(np.int16) + middle).astype(np.uint8).reshape(-1)
        shape = np.asarray(whole.shape, np.int64)
        constants += [
            numpy_helper.from_array(shape, f"{name}_shape"),
            numpy_helper.from_array(np.asarray(middle, np.float32), f"{name}_middle"),
        ]
        unpack = _in_six_bits if bits == 6 else _in_four_bits
        packed, nodes = unpack(name, digits)
        constants += packed
        nodes += [
            helper.make_node("Reshape", [f"{name}_digits", f"{name}_shape"], [f"{name}_shaped"]),
            helper.make_node("Cast", [f"{name}_shaped"], [f"{name}_positive"], to=TensorProto.FLOAT),
            helper.make_node("Sub", [f"{name}_positive", f"{name}_middle"], [f"{name}_whole"]),
        ]
    return constants, [*nodes, helper.make_node("Mul", [f"{name}_whole", f"{name}_scales"], [name])]


def _in_four_bits(
    name: str, digits: npt.NDArray[np.uint8]
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Two digits a byte."""
    low, high = digits.reshape(2, -1)
    byte, four, mask = f"{name}_bytes", f"{name}_4", f"{name}_15"
    constants = [
        numpy_helper.from_array(low | high << 4, byte),
        *_small(name, 4, 15),
    ]
    nodes = [
        helper.make_node("BitwiseAnd", [byte, mask], [f"{name}_low"]),
        helper.make_node("BitShift", [byte, four], [f"{name}_high"], direction="RIGHT"),
        helper.make_node("Concat", [f"{name}_low", f"{name}_high"], [f"{name}_digits"], axis=0),
    ]
    return constants, nodes


def _in_six_bits(
    name: str, digits: npt.NDArray[np.uint8]
) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """Four digits in three bytes: each byte holds one, and two bits of the fourth."""
    first, second, third, fourth = digits.reshape(4, -1)
    rows = [(first, 0), (second, 2), (third, 4)]
    constants = _small(name, 2, 4, 6, 63)
    nodes, digit_names, parts = [], [], []
    for number, (row, place) in enumerate(rows):
        byte, own, part = (f"{name}_{kind}{number}" for kind in ("byte", "own", "part"))
        constants.append(numpy_helper.from_array(row | (fourth >> place & 3) << 6, byte))
        nodes.append(helper.make_node("BitwiseAnd", [byte, f"{name}_63"], [own]))
        nodes.append(helper.make_node("BitShift", [byte, f"{name}_6"], [part], direction="RIGHT"))
        digit_names.append(own)
        if place:
            nodes.append(
                helper.make_node("BitShift", [part, f"{name}_{place}"], [f"{part}_up"], direction="LEFT")
            )
        parts.append(f"{part}_up" if place else part)
    nodes += [
        helper.make_node("BitwiseOr", parts[:2], [f"{name}_two"]),
        helper.make_node("BitwiseOr", [f"{name}_two", parts[2]], [f"{name}_fourth"]),
        helper.make_node("Concat", [*digit_names, f"{name}_fourth"], [f"{name}_digits"], axis=0),
    ]
    return constants, nodes


def _small(name: str, *numbers: int) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.asarray(number, np.uint8), f"{name}_{number}") for number in numbers]


def _hoist(graph: onnx.GraphProto) -> None:
    """Make large constants that are nodes initialisers, as which they may be halves."""
    for node in list(graph.node):
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.type == attribute.TENSOR and _is_large(attribute.t):
                graph.initializer.add().CopyFrom(attribute.t)
                graph.initializer[-1].name = node.output[0]
                graph.node.remove(node)


def _shorten(graph: onnx.GraphProto) -> None:
    """Give everything inside a graph the shortest names there are."""
    kept = {each.name for each in itertools.chain(graph.input, graph.output)}
    short: dict[str, str] = {"": ""}
    counter = itertools.count()

    def of(name: str) -> str:
        if name not in short:
            short[name] = name if name in kept else f"_{next(counter):x}"
        return short[name]

    for tensor in graph.initializer:
        tensor.name = of(tensor.name)
    for node in graph.node:
        node.name = node.doc_string = ""
        for names in (node.input, node.output):
            for place, name in enumerate(names):
                names[place] = of(name)
        if any(each.type in (each.GRAPH, each.GRAPHS) for each in node.attribute):
            raise ExportError(f"{node.op_type}: holds a graph of its own, whose names would be others")
    del graph.value_info[:]
