"""The models that a cell's devices may ask: the current ones, and older ones until their devices moved on.

    bundle_hash of a frame ──▶ BackendRegistry.of ──▶ the backend that understands its tokens

A device's tokens mean something only to the model that was trained with its transmitters. While a new model
takes over, both are served, each for the bundles it answers for. Several models that have nothing to do with
one another are lines of their own, beside one another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from edge_server.engine import AnswerStream, Priority, Request
from edge_server.errors import BundleMismatchError


class Backend(Protocol):
    """The port through which a model enters the cell."""

    @property
    def bundle_hashes(self) -> Sequence[str]:
        """Of the device bundles it answers for; the one it was exported with is first."""

    @property
    def token_lengths(self) -> Sequence[int]:
        """Token lengths that it was trained for."""

    @property
    def symbols_per_token(self) -> int:
        """Complex symbols per unit of token length of a question that brings all modalities, pilots aside."""

    @property
    def token_length(self) -> int | None:
        """The one that it works best with, whatever the link; None: that depends on the link."""

    @property
    def knows_how_sure(self) -> bool:
        """Whether its answers come with a calibrated confidence, so that questions may come in rounds."""

    @property
    def retry_delay_s(self) -> float:
        """After how long it pays to ask its engine again, where one was turned away now [s]."""

    def admit(self, user: str, priority: Priority = "interactive") -> None:
        """Tell whether its engine would accept a question of this user now; raises what the engine raises."""

    def submit(self, request: Request) -> AnswerStream:
        """Hand an admitted question to its engine; raises what the engine raises."""


BackendT = TypeVar("BackendT", bound=Backend)


class BackendRegistry(Generic[BackendT]):
    """The backends of a cell, line by line, of each the newest first.

    Args:
        first: answers whoever names none; there is always one.
        beside: of other models.
    """

    def __init__(self, first: BackendT, beside: Sequence[BackendT] = ()) -> None:
        self._lines = [[backend] for backend in (first, *beside)]

    def __iter__(self) -> Iterator[BackendT]:
        return iter([backend for line in self._lines for backend in line])

    @property
    def current(self) -> BackendT:
        """Answers whoever names neither a bundle nor a model."""
        return self._lines[0][0]

    @property
    def newest(self) -> tuple[BackendT, ...]:
        """Of each line; the current one is first."""
        return tuple(line[0] for line in self._lines)

    @property
    def bundle_hashes(self) -> tuple[str, ...]:
        """Of every bundle that is answered for, the current one first."""
        return tuple(dict.fromkeys(name for backend in self for name in backend.bundle_hashes))

    def successor_of(self, backend: BackendT) -> BackendT:
        """The newest of its line, whose bundle its devices are told to fetch; itself, if none came after."""
        return self._line_of(backend)[0]

    def of(self, bundle_hash: str) -> BackendT:
        """The newest backend that answers for a bundle.

        Raises:
            BundleMismatchError: none does.
        """
        for backend in self:
            if bundle_hash in backend.bundle_hashes:
                return backend
        raise BundleMismatchError(bundle_hash[:128], self.bundle_hashes)

    def add(self, backend: BackendT, after: BackendT | None = None) -> None:
        """Make a backend the newest of a line.

        Args:
            backend: the new one.
            after: of whose line; None: the current one's.
        """
        self._line_of(after or self.current).insert(0, backend)

    def restore(self, backend: BackendT) -> None:
        """Make an older backend the newest of its line again."""
        line = self._line_of(backend)
        line.remove(backend)
        line.insert(0, backend)

    def remove(self, backend: BackendT) -> None:
        """Answer for a backend's bundles no more, unless it is the newest one's too."""
        line = self._line_of(backend)
        assert backend is not line[0]  # noqa: S101 - who replaces a backend adds first
        line.remove(backend)

    def _line_of(self, backend: BackendT) -> list[BackendT]:
        return next(line for line in self._lines if any(each is backend for each in line))
