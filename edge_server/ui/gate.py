"""Who may look at the page and ask from it: the hook for whoever guards the other doors."""

from __future__ import annotations

from typing import Protocol


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


class OpenGate:
    """Lets everybody in, as the REST doors do where no keys are set up."""

    def needs_key(self, host: str) -> bool:
        """Nobody needs one."""
        return False

    def user_of(self, key: str, host: str) -> str:
        """Every address is a user."""
        return host or "unknown"
