"""Looks for external data in an ONNX file without loading it.

A graph may name further files to read weights from; ONNX Runtime would open whatever path is written
there. A bundle lists every one of its files with a checksum, so such a graph is refused. The device has no
``onnx`` package: this walks the protobuf wire format down to the tensors, field numbers from ``onnx.proto``.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_agent.errors import BundleError

MAX_DEPTH = 32
"""Graphs within nodes within graphs: deeper than any exporter makes them."""
MAX_FIELDS = 2_000_000
"""Fields of one file: far more than exporters make. A graph may be large; it is in few, large fields then."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class _Message:
    """Fields of one message type that lead to tensors, and those that mean external data."""

    children: Mapping[int, str] = field(default_factory=dict)
    external: frozenset[int] = frozenset()


_SCHEMA: Mapping[str, _Message] = {
    "Model": _Message({7: "Graph", 20: "Training", 25: "Function"}),
    "Training": _Message({1: "Graph", 2: "Graph"}),
    "Function": _Message({7: "Node", 11: "Attribute"}),
    "Graph": _Message({1: "Node", 5: "Tensor", 15: "SparseTensor"}),
    "Node": _Message({5: "Attribute"}),
    "Attribute": _Message({5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"}),
    "Sparse": _Message({1: "Tensor", 2: "Tensor"}),
    "SparseTensor": _Message({1: "Tensor", 2: "Tensor"}),
    "Tensor": _Message(external=frozenset({13, 14})),
}


def refuse_external_data(graph: bytes | memoryview, name: str) -> None:
    """Check that a serialised ONNX model brings all of its weights along.

    Args:
        graph: the file's bytes.
        name: the file's name, for the message.

    Raises:
        BundleError: it names external files, or is no protobuf message.
    """
    try:
        found = _Walk().external(memoryview(graph), "Model", 0)
    except (IndexError, ValueError) as error:
        raise BundleError(f"{name} is no ONNX graph: {error}") from error
    if found:
        raise BundleError(f"{name} reads its weights from another file; a bundle's graphs must be whole")


def refuse_external_data_of(path: Path) -> None:
    """:func:`refuse_external_data` of a file, of which only what is looked at is read into memory."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            return refuse_external_data(b"", path.name)
        # Unmapped with the last view of it, which an error may still hold.
        refuse_external_data(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)), path.name)


class _Walk:
    """One look through a model, of so many fields at most."""

    def __init__(self) -> None:
        self._fields_left = MAX_FIELDS

    def external(self, data: memoryview, kind: str, depth: int) -> bool:
        """Whether a message, or one within it, means external data."""
        if depth > MAX_DEPTH:
            raise ValueError(f"nested deeper than {MAX_DEPTH}")
        schema = _SCHEMA[kind]
        for number, wire_type, value in _fields(data):
            self._fields_left -= 1
            if self._fields_left < 0:
                raise ValueError(f"more than {MAX_FIELDS} fields")
            if number in schema.external:
                # data_location (14) is an enum whose 0 is "here"; external_data (13) should not occur at all.
                if wire_type != _VARINT or value != 0:
                    return True
            elif (
                number in schema.children
                and isinstance(value, memoryview)
                and self.external(value, schema.children[number], depth + 1)
            ):
                return True
        return False


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire_type = key >> 3, key & 7
        if wire_type == _VARINT:
            value, position = _varint(data, position)
            yield number, wire_type, value
            continue
        if wire_type == _BYTES:
            size, position = _varint(data, position)
        elif wire_type in (_FIXED64, _FIXED32):
            size = 8 if wire_type == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {position}")
        if size > len(data) - position:
            raise ValueError("cut short")
        yield number, wire_type, data[position : position + size]
        position += size


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError(f"endless number at byte {position}")
