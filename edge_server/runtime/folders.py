"""What a model folder is served with: a link, or a model that was split. Light to import: no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from edge_server.engine.ports import Model, ModelRunner
from edge_server.model.split.description import is_split
from edge_server.runtime.computing import Computing
from edge_server.runtime.model_info import load_model_info
from edge_server.runtime.split_info import load_split_info


class ServedModel(Model, ModelRunner[Any], Protocol):
    """A model with what computes it."""


def load_info(directory: Path) -> Model:
    """Read what a model folder says of the model, not its weights.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read.
    """
    return load_split_info(directory) if is_split(directory) else load_model_info(directory)


def load(directory: Path, computing: Computing) -> ServedModel:
    """Load a model folder for serving. From here on the process keeps memory that it has freed.

    Args:
        directory: the model folder, with its device bundle in ``bundle/``.
        computing: how.

    Raises:
        ModelError: the folder, or its bundle's manifest, cannot be read, or there is no such device.
    """
    # torch takes seconds to import: only once everything else is known to be right.
    if is_split(directory):
        from edge_server.runtime.split_runner import load_split

        return load_split(directory, computing)
    from edge_server.runtime.model_runner import load as load_link

    return load_link(directory, computing)
