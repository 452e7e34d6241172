"""Certificates of devices in the access file: given, listed, revoked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_server.access.authority import Signed
from edge_server.access.store import connect, transaction
from edge_server.errors import ConfigurationError


@dataclass(frozen=True)
class CertificateRecord:
    """A certificate that was given; times in seconds since the Unix epoch."""

    serial: str
    device_id: str
    fingerprint: str
    issued_s: float
    expires_s: float
    revoked_s: float | None

    def state(self, now_s: float) -> str:
        """``good``, ``expired`` or ``revoked``."""
        if self.revoked_s is not None:
            return "revoked"
        return "expired" if self.expires_s <= now_s else "good"


def record(database: sqlite3.Connection, device_id: str, signed: Signed, now_s: float) -> None:
    """Note a certificate that was just given, within a transaction.

    Earlier ones of the device are revoked: whoever took its old key is out once the device has a new one.
    """
    database.execute(
        "UPDATE certificates SET revoked_s = ? WHERE device_id = ? AND revoked_s IS NULL", (now_s, device_id)
    )
    database.execute(
        "INSERT INTO certificates (serial, device_id, fingerprint, issued_s, expires_s)"
        " VALUES (?, ?, ?, ?, ?)",
        (signed.serial, device_id, signed.fingerprint, now_s, signed.expires_s),
    )


def revoke(path: Path, device_or_serial: str, now_s: float) -> int:
    """Refuse a device, or one of its certificates, from its next frame on.

    Returns:
        How many certificates this took.

    Raises:
        ConfigurationError: none that is not revoked yet.
    """
    with transaction(path) as database:
        count = database.execute(
            "UPDATE certificates SET revoked_s = ? WHERE (device_id = ? OR serial = ?) AND revoked_s IS NULL",
            (now_s, device_or_serial, device_or_serial.lower()),
        ).rowcount
        # A token that was not used yet would let it in again.
        tokens = database.execute(
            "DELETE FROM enrol_tokens WHERE device_id = ? AND used_s IS NULL", (device_or_serial,)
        ).rowcount
        if not count and not tokens:
            raise ConfigurationError(
                f"device: {device_or_serial[:80]!r} has no certificate that is good; "
                "see `edge-server certs list`"
            )
    return count


def list_certificates(path: Path) -> list[CertificateRecord]:
    """All certificates, oldest first."""
    with closing(connect(path)) as database:
        rows = database.execute("SELECT * FROM certificates ORDER BY issued_s, serial").fetchall()
    return [CertificateRecord(**dict(row)) for row in rows]
