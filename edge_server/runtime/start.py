"""What a process of its own computes a batch with. Light to import: whoever only names it loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge_server.engine import ModelRunner

PRELOAD = ("edge_server.runtime.model_runner",)
"""Modules that :func:`load_runner` needs."""


def load_runner(directory: Path, threads: int, device: str, bfloat16: bool) -> ModelRunner[Any]:
    """Load a model folder; see :func:`edge_server.runtime.model_runner.load`."""
    from edge_server.runtime.model_runner import load

    return load(directory, threads, device, bfloat16=bfloat16)
