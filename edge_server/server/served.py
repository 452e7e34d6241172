"""What a server serves: one loaded model, with what makes questions ready for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

from edge_server.engine import Model, ModelRunner
from edge_server.engine.canary import Canary
from edge_server.engine.ports import StateT
from edge_server.frontdoor.ports import BundleArchive, Ingest, LinkShape


@dataclass(frozen=True)
class Served(Generic[StateT]):
    """What a server serves.

    Attributes:
        model: what is asked.
        runner_of: what each of the engine's batches computes with, by its number.
        ingest: makes media of REST requests ready.
        shape: token blocks that the model takes.
        token_lengths: that it was trained for.
        bundles: given to devices that ask for one; the model answers for them all, and its own is first.
        digest: of its weights and descriptions; empty where nobody asks whether they have changed.
        canaries: asked before it takes over from another model, and after.
        close: frees what it holds beside its memory.
    """

    model: Model
    runner_of: Callable[[int], ModelRunner[StateT]]
    ingest: Ingest
    shape: LinkShape
    token_lengths: tuple[int, ...]
    bundles: tuple[BundleArchive, ...] = ()
    digest: str = ""
    canaries: tuple[Canary, ...] = ()
    close: Callable[[], None] = lambda: None
