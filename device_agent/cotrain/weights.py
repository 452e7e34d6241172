"""Weights in files of the safetensors format, read and written with numpy alone.

    8 bytes: length of the header, little-endian ─▶ header, JSON: name ─▶ dtype, shape, data_offsets ─▶ data

float32 only. Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.errors import BundleError

Array = npt.NDArray[np.float32]
MAX_FILE_BYTES = 256 * 2**20
"""Of a file of heads: far more than any."""
_MAX_HEADER_BYTES = 2**20
_DTYPE = "F32"


def read_weights(path: Path) -> tuple[dict[str, Array], dict[str, str]]:
    """Weights by name, and what the file's header says beside them.

    Raises:
        BundleError: the file cannot be read, or is not one of float32 weights.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
        whole = path.read_bytes()
        length = int.from_bytes(whole[:8], "little")
        if not 2 <= length <= min(_MAX_HEADER_BYTES, len(whole) - 8):
            raise ValueError("its header is cut short")
        header = json.loads(whole[8 : 8 + length])
        said = header.pop("__metadata__", {})
        data = memoryview(whole)[8 + length :]
        return {name: _tensor(each, data) for name, each in header.items()}, dict(said)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{path} is no file of float32 weights: {error}") from error


def write_weights(path: Path, weights: Mapping[str, Array], said: Mapping[str, str]) -> None:
    """Write weights in place of what the file holds, all or nothing, and onto the disk.

    Raises:
        OSError: it cannot be written.
    """
    header: dict[str, object] = {"__metadata__": dict(said)}
    offset = 0
    for name, each in weights.items():
        header[name] = {
            "dtype": _DTYPE,
            "shape": list(each.shape),
            "data_offsets": [offset, offset + each.nbytes],
        }
        offset += each.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for each in weights.values():
            file.write(np.ascontiguousarray(each, "<f4").data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _tensor(described: Mapping[str, Any], data: memoryview) -> Array:
    shape = described["shape"]
    begin, end = described["data_offsets"]
    if described["dtype"] != _DTYPE or not isinstance(shape, list):
        raise ValueError(f"dtype {described['dtype']!r}; {_DTYPE} is needed")
    if not 0 <= begin <= end <= len(data) or end - begin != 4 * math.prod(shape):
        raise ValueError("a tensor does not lie within the file")
    return np.frombuffer(data[begin:end], "<f4").astype(np.float32).reshape(shape)
