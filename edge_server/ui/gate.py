"""Who may look at the page and ask from it: the hook for whoever guards the other doors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from edge_server.cell import Limits, Peer
from edge_server.errors import EdgeServerError, UnauthenticatedError
from edge_server.frontdoor.http.api_keys import KeyRing


class Gate(Protocol):
    """Asked for every visitor, before anything is shown, and again for every question."""

    def needs_key(self, host: str) -> bool:
        """Whether a visitor from this address has to show an API key."""

    def user_of(self, key: str, host: str) -> str:
        """Whom a visitor's questions count for, as the REST doors count them.

        Args:
            key: what the visitor showed; empty where none is needed.
            host: address that the visitor comes from; empty where it is not known.

        Raises:
            EdgeServerError: the key is missing, wrong or revoked, or its limits are reached.
        """

    def peer_of(self, key: str) -> Peer | None:
        """Whose scenes a visitor may see: those of whoever's key this is; None: nobody has to show any.

        Raises:
            EdgeServerError: the key is missing, wrong or revoked.
        """

    def still_good(self, key: str) -> bool:
        """Whether who showed this key may go on looking."""


class OpenGate:
    """Lets everybody in, as the REST doors do where no keys are set up."""

    def needs_key(self, host: str) -> bool:
        """Nobody needs one."""
        return False

    def user_of(self, key: str, host: str) -> str:
        """Every address is a user."""
        return host or "unknown"

    def peer_of(self, key: str) -> Peer | None:
        """Nobody."""
        return None

    def still_good(self, key: str) -> bool:
        """Everybody may."""
        return True


class KeyGate:
    """Lets in whoever has an API key, within that key's limits: as the REST doors do.

    Args:
        keys: the keys that are good.
        limits: on what each may ask.
        refused: told, in one word, why somebody was not let in.
    """

    def __init__(
        self, keys: KeyRing, limits: Limits, refused: Callable[[str], None] = lambda reason: None
    ) -> None:
        self._refused = refused
        self._keys = keys
        self._limits = limits

    def needs_key(self, host: str) -> bool:
        """Everybody needs one."""
        return True

    def user_of(self, key: str, host: str) -> str:
        """The key's name; raises as the port says."""
        try:
            peer = self._keys.peer_of_key(key)
        except UnauthenticatedError as error:
            self._refused(error.reason)
            raise
        self._limits.spend(peer, questions=1, size_bytes=0)
        return peer.name

    def peer_of(self, key: str) -> Peer | None:
        """The key's owner; raises as the port says."""
        return self._keys.peer_of_key(key)

    def still_good(self, key: str) -> bool:
        """Until the key is revoked, or it cannot be told whether it was."""
        try:
            self._keys.peer_of_key(key)
        except EdgeServerError:
            return False
        return True
