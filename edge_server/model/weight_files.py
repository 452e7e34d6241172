"""Whether files of weights are whole, told by their headers: no weight is read, and no library needed.

Source: the format as safetensors describes it: eight bytes of length, that much JSON, and each tensor's bytes
where the JSON says, one after the other to the file's end.
"""

from __future__ import annotations

import json
from pathlib import Path

from edge_server.errors import ModelError

SUFFIX = ".safetensors"
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The most that safetensors itself reads."""


def check_weights(path: Path) -> None:
    """Compare a file's size with what its header says that it holds.

    Raises:
        ModelError: it is cut short or longer, holds no such header, or cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
            header_end = _LENGTH_BYTES + length
            if header_end > size or length > _MAX_HEADER_BYTES:
                raise ModelError(f"{path} is cut short: its header alone takes {header_end} bytes, of {size}")
            header = json.loads(file.read(length))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path} is no file of weights: {error}") from error
    expected = header_end + max(ends, default=0)
    if size != expected:
        state = "is cut short" if size < expected else "is longer than its header says"
        raise ModelError(f"{path} {state}: {size} bytes, not {expected}")


def check_weights_of(folder: Path) -> None:
    """:func:`check_weights` of every such file in a model's folder; raises as that."""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        check_weights(path)
