"""What answers of a model folder: the half that needs no library that trains, or a whole link."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_server.model.answering import AnsweringHalf, read_answering_half

if TYPE_CHECKING:
    from edge_server.model.link import Link


def load_answering(directory: Path) -> AnsweringHalf | Link:
    """Read a model folder for serving.

    Raises:
        ModelError: a file is missing, does not fit the configuration, or asks for what is not served.
    """
    half = read_answering_half(directory)
    if half is not None:
        return half
    # It takes seconds to import.
    from edge_server.model.link import Link

    return Link.load(directory)
