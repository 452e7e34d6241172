"""Who is at the other end, where a credential showed it, and the port that says whether it is still good."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from edge_server.errors import PermissionDeniedError


@dataclass(frozen=True)
class Peer:
    """Somebody who has shown who they are.

    Attributes:
        name: of the device, or of the API key after ``key:``; limits and shares count by it.
        credential: serial number of the certificate, or id of the key; not secret.
    """

    name: str
    credential: str

    def check_device_id(self, device_id: str) -> None:
        """A device may call itself by its name, or ``NAME/`` and anything: several agents may run on one.

        Raises:
            PermissionDeniedError: it calls itself by another's name.
        """
        if device_id != self.name and not device_id.startswith(f"{self.name}/"):
            raise PermissionDeniedError(
                "device_id",
                f"is {device_id[:128]!r}; the certificate is {self.name!r}'s, which may also add "
                "'/' and a name for one of its agents",
                reason="device_id",
            )


class Access(Protocol):
    """Says whether a credential is good now. Asked for every frame: fast, and never behind."""

    def check(self, peer: Peer) -> None:
        """Let a peer pass.

        Raises:
            UnauthenticatedError: its credential is unknown, expired or revoked.
        """
