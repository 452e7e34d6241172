"""What a process of its own computes a batch with. Light to import: whoever only names it loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_server.engine import Core

PRELOAD = ("edge_server.model.serving",)
"""Modules that :func:`load_core` needs."""


def load_core(directory: Path, threads: int, device: str, bfloat16: bool) -> Core[Any]:
    """Load a model folder; see :func:`edge_server.model.serving.load`."""
    from edge_server.model.serving import load

    return load(directory, threads, device, bfloat16=bfloat16)
