"""Who may come in, as records that several access files have in common.

    certificate SERIAL ─▶ device, fingerprint, issued, expires, revoked
    key ID             ─▶ name, digest, made, revoked

Two files that know the same record differently agree on the stricter of both: what was revoked anywhere stays
revoked, and of two ends the earlier one counts. Joined in any order, any number of times, files come out the
same. Secrets are in records only as hashes, as they are in files.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from edge_server.access.store import connect, transaction

logger = logging.getLogger(__name__)

Record: TypeAlias = Mapping[str, Any]

CERTIFICATE, KEY = "certificate", "key"
_COLUMNS: Mapping[str, Mapping[str, type | tuple[type, ...]]] = {
    CERTIFICATE: {
        "device_id": str,
        "fingerprint": str,
        "issued_s": (int, float),
        "expires_s": (int, float),
        "revoked_s": (int, float, type(None)),
    },
    KEY: {
        "name": str,
        "digest": str,
        "created_s": (int, float),
        "revoked_s": (int, float, type(None)),
    },
}


def read_records(path: Path) -> dict[str, Record]:
    """All records of an access file, by kind and number: ``certificate.SERIAL``, ``key.ID``.

    Raises:
        ConfigurationError: there is no such file.
    """
    with closing(connect(path)) as database:
        found: dict[str, Record] = {}
        for row in database.execute("SELECT * FROM certificates"):
            found[f"{CERTIFICATE}.{row['serial']}"] = {name: row[name] for name in _COLUMNS[CERTIFICATE]}
        for row in database.execute("SELECT * FROM api_keys"):
            record = {name: row[name] for name in _COLUMNS[KEY]}
            found[f"{KEY}.{row['key_id']}"] = {**record, "digest": row["digest"].hex()}
    return found


def joined(one: Record, other: Record) -> Record:
    """What both say together: the stricter of each."""
    together = dict(one)
    for name in ("expires_s", "revoked_s"):
        told = [each[name] for each in (one, other) if each.get(name) is not None]
        if name in one:
            together[name] = min(told, default=None)
    return together


def written(record: Record) -> bytes:
    """A record as a message; equal ones are the same bytes."""
    return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def read(name: str, message: bytes) -> Record | None:
    """A record from a message; None where it is none, which is logged."""
    columns = _COLUMNS.get(name.partition(".")[0])
    try:
        record = json.loads(message)
        if columns is None or set(record) != set(columns):
            raise ValueError("has other fields")
        for column, allowed in columns.items():
            if not isinstance(record[column], allowed):
                raise ValueError(f"{column} is {type(record[column]).__name__}")
        if columns is _COLUMNS[KEY]:
            bytes.fromhex(record["digest"])
    except (ValueError, TypeError) as error:
        logger.warning("a record of who may come in cannot be read: %s", error, extra={"record": name[:80]})
        return None
    found: Record = record
    return found


def take(path: Path, records: Mapping[str, Record]) -> None:
    """Write records into an access file, joined with what it holds.

    Raises:
        ConfigurationError: there is no such file, or it cannot be written.
    """
    with transaction(path) as database:
        for name, record in records.items():
            kind, _, number = name.partition(".")
            if kind == CERTIFICATE:
                _take_certificate(database, number, record)
            else:
                _take_key(database, number, record)


def _take_certificate(database: sqlite3.Connection, serial: str, record: Record) -> None:
    database.execute(
        "INSERT OR IGNORE INTO certificates (serial, device_id, fingerprint, issued_s, expires_s) "
        "VALUES (?, ?, ?, ?, ?)",
        (serial, record["device_id"], record["fingerprint"], record["issued_s"], record["expires_s"]),
    )
    database.execute(
        "UPDATE certificates SET expires_s = min(expires_s, ?), revoked_s = coalesce(min(revoked_s, ?), "
        "revoked_s, ?) WHERE serial = ?",
        (record["expires_s"], record["revoked_s"], record["revoked_s"], serial),
    )


def _take_key(database: sqlite3.Connection, key_id: str, record: Record) -> None:
    known = database.execute("SELECT 1 FROM api_keys WHERE key_id = ?", (key_id,)).fetchone()
    if known is None:
        taken = database.execute("SELECT 1 FROM api_keys WHERE name = ?", (record["name"],)).fetchone()
        # Two files gave two keys one name: both are good, and they are two users.
        name = f"{record['name']}~{key_id}" if taken is not None else record["name"]
        database.execute(
            "INSERT INTO api_keys (key_id, name, digest, created_s) VALUES (?, ?, ?, ?)",
            (key_id, name, bytes.fromhex(record["digest"]), record["created_s"]),
        )
    database.execute(
        "UPDATE api_keys SET revoked_s = coalesce(min(revoked_s, ?), revoked_s, ?) WHERE key_id = ?",
        (record["revoked_s"], record["revoked_s"], key_id),
    )
