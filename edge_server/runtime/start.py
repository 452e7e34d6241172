"""Loads the model in a process that computes; called there by :mod:`edge_server.engine.runner_process`.

Light to import: the server's own process passes :func:`load_runner` on, and loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edge_server.engine import ModelRunner
from edge_server.errors import ModelError
from edge_server.model.description import read_description
from edge_server.model.llama_shape import shape_of
from edge_server.model.split.description import is_split
from edge_server.runtime.computing import Computing
from edge_server.runtime.folders import load
from edge_server.runtime.snapshot import Snapshot, digest_of

if TYPE_CHECKING:
    from edge_server.runtime.vllm_runner import VllmRunner


def preload_for(snapshot: Snapshot) -> tuple[str, ...]:
    """Modules that :func:`load_runner` needs for what is served, and no others: they take seconds to import.

    Raises:
        ModelError: its folder cannot be read.
    """
    if is_split(snapshot.folder):
        return ("edge_server.runtime.split_runner",)
    config, _ = read_description(snapshot.folder)
    whole = () if shape_of(config.foundation) else ("edge_server.model.link",)
    return ("edge_server.runtime.model_runner", *whole)


def load_runner(snapshot: Snapshot, computing: Computing) -> ModelRunner[Any]:
    """Load the model that is served; see :func:`edge_server.runtime.folders.load`.

    Raises:
        ModelError: its folder does not hold what the snapshot was taken of, or cannot be read.
    """
    if digest_of(snapshot.folder) != snapshot.digest:
        raise ModelError("its weights are not those that are served")
    return load(snapshot.folder, computing)


def load_vllm_runner(snapshot: Snapshot, threads: int, max_rows: int) -> VllmRunner:
    """Load the model that is served behind vLLM; see :func:`edge_server.runtime.vllm_loading.load_vllm`.

    Raises:
        ModelError: its folder does not hold what the snapshot was taken of, or vLLM cannot compute it.
    """
    if digest_of(snapshot.folder) != snapshot.digest:
        raise ModelError("its weights are not those that are served")
    from edge_server.runtime.vllm_loading import load_vllm

    return load_vllm(snapshot.folder, threads, max_rows, scratch=snapshot.folder.parent)
