"""Gradients and weights of co-training as bytes, and back.

    g_RC float32 ─encode─▶ BlockGradient ═══▶ checks ─decode─▶ g_RC float32

Gradients are small: in float16 they are told in parts of the largest one. In int8 the error of each row is
added to the row below it (error feedback), channel by channel, and that of the last row to the next block's
first: what a head's weights get is a sum over rows, in which such errors cancel instead of adding up.

Shapes: R rows, which are the tokens of all examples above one another; C channel_dim.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from protos.names import DTYPES
from protos.tokenlink.v1 import cotrain_pb2 as cpb
from protos.tokenlink.v1 import tokenlink_pb2 as pb

Array = npt.NDArray[np.float32]
Weights = Mapping[str, npt.NDArray[np.float32]]
"""Weights by name."""

GRADIENT_DTYPES = ("float32", "float16", "int8")
"""How gradients may come."""
MAX_GRADIENT = 1e6
"""Largest magnitude of a gradient's value: beyond, something broke."""
MAX_WEIGHT = 1e4
"""Likewise of a weight."""

_NUMPY: Mapping[int, np.dtype[Any]] = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT16: np.dtype("<f2"),
    pb.DTYPE_INT8: np.dtype("i1"),
}


class GradientError(ValueError):
    """A gradient, or weights, that cannot be used.

    Args:
        field: of the message.
        message: what was found and what is allowed.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def encode(
    transmitter: str, g_RC: Array, dtype: str, carried_C: Array | None = None
) -> tuple[cpb.BlockGradient, Array]:
    """Pack a gradient.

    Args:
        transmitter: whose tokens it is about.
        g_RC: finite.
        dtype: one of GRADIENT_DTYPES.
        carried_C: what the block before could not say; None: nothing.

    Returns:
        The message, and what it could not say, to be carried to the next one; zeros but for int8.

    Raises:
        GradientError: names the field, what was found and what is allowed.
    """
    if dtype not in GRADIENT_DTYPES:
        raise GradientError("dtype", f"is {dtype!r}; allowed: {', '.join(GRADIENT_DTYPES)}")
    if g_RC.ndim != 2 or not g_RC.size:
        raise GradientError("shape", f"is {list(g_RC.shape)}; [rows, channel_dim], each at least 1")
    if not np.isfinite(g_RC).all():
        raise GradientError("data", "holds values that are not finite")
    left_C = np.zeros(g_RC.shape[1], np.float32)
    scale = 0.0
    if dtype == "float32":
        data = g_RC.astype("<f4").tobytes()
    elif dtype == "float16":
        scale = _scale(float(np.abs(g_RC).max()))
        data = (g_RC / np.float32(scale)).astype("<f2").tobytes()
    else:
        carried_C = left_C if carried_C is None else carried_C
        scale = _scale(max(float(np.abs(g_RC).max()), float(np.abs(carried_C).max())) / 100.0)
        quantised = np.empty(g_RC.shape, np.int8)
        left_C = carried_C.astype(np.float32)
        for row, g_C in enumerate(g_RC):
            wanted_C = g_C + left_C
            # 100 steps for the value leave room for what is carried, which is half a step as a rule.
            quantised[row] = np.clip(np.rint(wanted_C / np.float32(scale)), -127, 127)
            left_C = wanted_C - quantised[row] * np.float32(scale)
        data = quantised.tobytes()
    block = cpb.BlockGradient(
        transmitter=transmitter,
        dtype=DTYPES[dtype],
        shape=g_RC.shape,
        scale=scale,
        data=data,
        crc32=zlib.crc32(data),
    )
    return block, left_C


def decode(block: cpb.BlockGradient, *, rows: int, channel_dim: int) -> Array:
    """Unpack a gradient that came from someone else: float32 [rows, channel_dim].

    Raises:
        GradientError: names the field, what was found and what is allowed.
    """
    kind = _NUMPY.get(block.dtype)
    if kind is None:
        raise GradientError("dtype", f"is {block.dtype}; allowed: {', '.join(GRADIENT_DTYPES)}")
    if list(block.shape) != [rows, channel_dim]:
        raise GradientError("shape", f"is {list(block.shape)[:3]}; [{rows}, {channel_dim}] was sent")
    if len(block.data) != rows * channel_dim * kind.itemsize:
        raise GradientError(
            "data", f"is {len(block.data)} bytes; {rows * channel_dim * kind.itemsize} needed"
        )
    if zlib.crc32(block.data) != block.crc32:
        raise GradientError("crc32", "is not that of the data")
    g_RC: Array = np.frombuffer(block.data, kind).astype(np.float32).reshape(rows, channel_dim)
    if block.dtype != pb.DTYPE_FLOAT32:
        if not (math.isfinite(block.scale) and block.scale > 0.0):
            raise GradientError("scale", f"is {block.scale}; a finite number above 0 is needed")
        with np.errstate(over="ignore"):
            g_RC = g_RC * np.float32(block.scale)
    _check("data", g_RC, MAX_GRADIENT)
    return g_RC


def heads_message(step: int, heads: Mapping[str, Weights]) -> cpb.Heads:
    """Weights of heads, by transmitter."""
    return cpb.Heads(
        step=step,
        heads=[
            cpb.HeadWeights(
                transmitter=transmitter,
                tensors=[
                    cpb.WeightTensor(name=name, shape=each.shape, data=each.astype("<f4").tobytes())
                    for name, each in weights.items()
                ],
            )
            for transmitter, weights in heads.items()
        ],
    )


def read_heads(
    message: cpb.Heads, shapes: Mapping[str, Mapping[str, Sequence[int]]]
) -> dict[str, dict[str, Array]]:
    """Weights of heads that came from someone else.

    Args:
        message: as received.
        shapes: of each weight of each transmitter; exactly these have to be there.

    Raises:
        GradientError: names the field, what was found and what is allowed.
    """
    found: dict[str, dict[str, Array]] = {}
    for head in message.heads:
        expected = shapes.get(head.transmitter)
        if expected is None or head.transmitter in found:
            raise GradientError("heads", f"of {head.transmitter!r}; {', '.join(shapes)} once each")
        weights: dict[str, Array] = {}
        for tensor in head.tensors:
            shape = expected.get(tensor.name)
            if shape is None or list(tensor.shape) != list(shape):
                raise GradientError(
                    "heads",
                    f"{head.transmitter}.{tensor.name[:40]} of shape {list(tensor.shape)[:4]} is not known",
                )
            if len(tensor.data) != 4 * math.prod(shape):
                raise GradientError("heads", f"{head.transmitter}.{tensor.name} has {len(tensor.data)} bytes")
            weights[tensor.name] = np.frombuffer(tensor.data, "<f4").astype(np.float32).reshape(tuple(shape))
            _check("heads", weights[tensor.name], MAX_WEIGHT)
        if set(weights) != set(expected):
            raise GradientError(
                "heads", f"{head.transmitter} lacks {', '.join(set(expected) - set(weights))}"
            )
        found[head.transmitter] = weights
    if set(found) != set(shapes):
        raise GradientError("heads", f"lack {', '.join(set(shapes) - set(found))}")
    return found


def _scale(scale: float) -> float:
    """As it is on the wire; 1 where there is nothing to scale."""
    rounded = float(np.float32(scale))
    return rounded if rounded >= float(np.finfo(np.float32).tiny) else 1.0


def _check(field: str, values: Array, most: float) -> None:
    if not np.isfinite(values).all():
        raise GradientError(field, "holds values that are not finite")
    largest = float(np.abs(values).max(initial=0.0))
    if largest > most:
        raise GradientError(field, f"holds a value of magnitude {largest:.3g}; at most {most:g}")
