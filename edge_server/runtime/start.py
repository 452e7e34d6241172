"""Loads the model in a process that computes; called there by :mod:`edge_server.engine.runner_process`.

Light to import: the server's own process passes :func:`load_runner` on, and loads no torch.
"""

from __future__ import annotations

from typing import Any

from edge_server.engine import ModelRunner
from edge_server.errors import ModelError
from edge_server.runtime.folders import load
from edge_server.runtime.snapshot import Snapshot, digest_of

PRELOAD = ("edge_server.runtime.model_runner", "edge_server.runtime.split_runner")
"""Modules that :func:`load_runner` needs."""


def load_runner(snapshot: Snapshot, threads: int, device: str, bfloat16: bool) -> ModelRunner[Any]:
    """Load the model that is served; see :func:`edge_server.runtime.folders.load`.

    Raises:
        ModelError: its folder does not hold what the snapshot was taken of, or cannot be read.
    """
    if digest_of(snapshot.folder) != snapshot.digest:
        raise ModelError("its weights are not those that are served")
    return load(snapshot.folder, threads, device, bfloat16=bfloat16)
