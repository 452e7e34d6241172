"""Is this certificate good, is this key, now? Answers from memory, and sees every change of the access file.

Each question first compares SQLite's data version, which changes when anybody else commits: what
``edge-server certs revoke`` wrote counts from the next frame on, without a delay and without a signal.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from edge_server.access.keys import digest_of, split_key
from edge_server.access.scene_grants import grants_by_name
from edge_server.access.store import connect
from edge_server.cell import Peer
from edge_server.errors import EngineFailureError, UnauthenticatedError

logger = logging.getLogger(__name__)

_NOBODY = hashlib.sha256(b"").digest()


@dataclass(frozen=True)
class _Certificate:
    device_id: str
    expires_s: float
    revoked: bool


@dataclass(frozen=True)
class _Key:
    name: str
    digest: bytes = field(repr=False)
    revoked: bool = False


class CredentialStore:
    """Implements :class:`edge_server.cell.Access` and the front door's ``KeyRing`` with an access file.

    Used by one thread, that of the event loop.

    Args:
        path: the access file.
        wall_clock: seconds since the Unix epoch: expiry is judged by this machine's clock alone.

    Raises:
        ConfigurationError: there is no such file, or it is something else.
    """

    def __init__(self, path: Path, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._database = connect(path)
        self._wall_clock = wall_clock
        self._data_version = -1
        self._certificates: Mapping[str, _Certificate] = MappingProxyType({})
        self._keys: Mapping[str, _Key] = MappingProxyType({})
        self._scenes: Mapping[str, tuple[str, ...]] = MappingProxyType({})

    def check(self, peer: Peer) -> None:
        """Let the holder of a certificate pass; as the port says."""
        self._refresh()
        known = self._certificates.get(peer.credential)
        if known is None or known.device_id != peer.name:
            raise UnauthenticatedError(
                "this certificate is not among those that were given here; enrol the device again",
                reason="unknown_certificate",
            )
        if known.revoked:
            raise UnauthenticatedError(
                "this certificate was revoked; enrol the device again", reason="revoked"
            )
        if known.expires_s <= self._wall_clock():
            raise UnauthenticatedError(
                "this certificate has expired, by the server's clock; enrol the device again",
                reason="expired",
            )

    def peer_of_key(self, key: str) -> Peer:
        """Whose API key this is.

        Raises:
            UnauthenticatedError: nobody's, or it was revoked.
        """
        self._refresh()
        key_id, secret = split_key(key)
        known = self._keys.get(key_id)
        # Compared in any case: how long it takes does not tell which ids exist.
        good = hmac.compare_digest(digest_of(secret), known.digest if known is not None else _NOBODY)
        if known is None or not good:
            raise UnauthenticatedError("this API key is not known here", reason="unknown_key")
        if known.revoked:
            raise UnauthenticatedError("this API key was revoked", reason="revoked")
        return Peer(f"key:{known.name}", key_id)

    def readable(self, name: str | None) -> tuple[str, ...]:
        """Whose scenes somebody may see: their own, and those that they were granted.

        Args:
            name: of the device, or the API key after ``key:``; None: nobody has shown who they are.

        Raises:
            EngineFailureError: the file cannot be read.
        """
        self._refresh()
        if name is None:
            return ()
        # A name is not a pattern: whoever is called * does not see everybody.
        own = () if "*" in name else (name, f"{name}/*")
        return (*own, *self._scenes.get(name, ()))

    def version(self) -> int:
        """Another number after each change of the file.

        Raises:
            EngineFailureError: it cannot be read.
        """
        self._refresh()
        return self._data_version

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _refresh(self) -> None:
        try:
            data_version = self._database.execute("PRAGMA data_version").fetchone()[0]
            if data_version == self._data_version:
                return
            # One transaction: both tables as they were at one moment.
            self._database.execute("BEGIN")
            try:
                certificates = {
                    row["serial"]: _Certificate(
                        row["device_id"], row["expires_s"], row["revoked_s"] is not None
                    )
                    for row in self._database.execute("SELECT * FROM certificates")
                }
                keys = {
                    row["key_id"]: _Key(row["name"], row["digest"], row["revoked_s"] is not None)
                    for row in self._database.execute("SELECT * FROM api_keys")
                }
                scenes = grants_by_name(self._database)
            finally:
                self._database.execute("COMMIT")
        except sqlite3.Error as error:
            # Nobody passes a door whose list cannot be read.
            logger.exception("the access file cannot be read")
            raise EngineFailureError(
                "it cannot be checked who may come in; the server's log has why"
            ) from error
        self._certificates, self._keys = MappingProxyType(certificates), MappingProxyType(keys)
        self._scenes = MappingProxyType(scenes)
        self._data_version = data_version
