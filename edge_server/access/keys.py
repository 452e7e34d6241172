"""API keys for REST: made, listed, revoked.

A key is ``tokenlink-ID-SECRET`` with 256 random bits. Only their SHA-256 is kept. A slow hash (scrypt)
protects passwords, which can be guessed; a random secret of this length cannot, and a slow hash would let
anybody who sends wrong keys keep the server busy.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_server.access.store import connect, transaction
from edge_server.errors import ConfigurationError

_PREFIX = "tokenlink-"
_MAX_NAME_CHARS = 64


@dataclass(frozen=True)
class KeyRecord:
    """An API key without its secret."""

    key_id: str
    name: str
    created_s: float
    revoked_s: float | None


def add_key(
    path: Path,
    name: str,
    now_s: float,
    *,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> str:
    """Make a key; it is shown here once and never again.

    Args:
        path: the access file.
        name: whom it is for.
        now_s: seconds since the Unix epoch.
        random_bytes: of that many; from the system.

    Raises:
        ConfigurationError: the name is not usable, or taken.
    """
    if not 1 <= len(name) <= _MAX_NAME_CHARS or not name.isprintable():
        raise ConfigurationError(
            f"name is {name[:80]!r}; 1 to {_MAX_NAME_CHARS} printable characters are needed"
        )
    key_id = random_bytes(6).hex()
    secret = base64.urlsafe_b64encode(random_bytes(32)).rstrip(b"=").decode()
    try:
        with transaction(path) as database:
            database.execute(
                "INSERT INTO api_keys (key_id, name, digest, created_s) VALUES (?, ?, ?, ?)",
                (key_id, name, digest_of(secret), now_s),
            )
    except sqlite3.IntegrityError as error:
        raise ConfigurationError(f"name: there is a key {name!r} already") from error
    return f"{_PREFIX}{key_id}-{secret}"


def revoke_key(path: Path, name_or_id: str, now_s: float) -> None:
    """Refuse a key from now on.

    Raises:
        ConfigurationError: there is no such key that is not revoked yet.
    """
    with transaction(path) as database:
        revoked = database.execute(
            "UPDATE api_keys SET revoked_s = ? WHERE (name = ? OR key_id = ?) AND revoked_s IS NULL",
            (now_s, name_or_id, name_or_id),
        )
        if not revoked.rowcount:
            raise ConfigurationError(f"name: no key {name_or_id[:80]!r} is good; see `edge-server keys list`")


def list_keys(path: Path) -> list[KeyRecord]:
    """All keys, oldest first."""
    database = connect(path)
    try:
        rows = database.execute("SELECT * FROM api_keys ORDER BY created_s, key_id").fetchall()
    finally:
        database.close()
    return [KeyRecord(row["key_id"], row["name"], row["created_s"], row["revoked_s"]) for row in rows]


def split_key(key: str) -> tuple[str, str]:
    """Id and secret of a key; both empty where it is none."""
    key_id, found, secret = key.removeprefix(_PREFIX).partition("-")
    return (key_id, secret) if found and key.startswith(_PREFIX) and secret.isascii() else ("", "")


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()
