"""One served model as the doors see it: its engine, and what makes questions ready for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeAlias

from edge_server.cell import BackendRegistry
from edge_server.engine import AnswerStream, Engine, Request
from edge_server.engine.ports import StateT
from edge_server.frontdoor.ports import BundleArchive, Ingest, LinkShape


@dataclass(frozen=True, eq=False)
class EngineBackend(Generic[StateT]):
    """Implements :class:`edge_server.cell.Backend` with an engine.

    Attributes:
        engine: answers.
        ingest: makes media of REST requests ready.
        shape: token blocks that its model takes.
        token_lengths: that it was trained for.
        bundles: given to devices that ask for one; the first of a precision is the current one.
        digest: of its model's weights and descriptions; empty where nobody asks whether they have changed.
        close: frees what it holds beside its memory.
    """

    engine: Engine[StateT]
    ingest: Ingest
    shape: LinkShape
    token_lengths: tuple[int, ...]
    bundles: tuple[BundleArchive, ...] = ()
    digest: str = ""
    close: Callable[[], None] = lambda: None

    @cached_property
    def bundle_hashes(self) -> tuple[str, ...]:
        """Of the model's own bundle, which is first, and of those made from it."""
        model = self.engine.model
        return tuple(dict.fromkeys([model.bundle_hash, *(bundle.bundle_hash for bundle in self.bundles)]))

    @property
    def retry_delay_s(self) -> float:
        """After how long it pays to ask the engine again, where one was turned away now [s]."""
        return self.engine.retry_delay_s

    def admit(self, user: str) -> None:
        """Tell whether the engine would accept a question of this user now; raises what that raises."""
        self.engine.admit(user)

    def submit(self, request: Request) -> AnswerStream:
        """Hand an admitted question to the engine; raises what that raises."""
        return self.engine.submit(request)


Backends: TypeAlias = BackendRegistry[EngineBackend[Any]]
"""What both doors open on. Each model's state is its own business, hence ``Any``."""


def bundle_for(backends: Backends, bundle_hash: str) -> str:
    """The current model's bundle of the precision that a device's bundle has.

    Args:
        backends: what is served.
        bundle_hash: what the device runs; one that is answered for.

    Returns:
        SHA-256 (hexadecimal): the same where the device is up to date.
    """
    current = backends.current
    if bundle_hash in current.bundle_hashes:
        return bundle_hash
    precisions = {bundle.bundle_hash: bundle.precision for each in backends for bundle in each.bundles}
    for bundle in current.bundles:
        if bundle.precision == precisions.get(bundle_hash):
            return bundle.bundle_hash
    return current.bundle_hashes[0]
