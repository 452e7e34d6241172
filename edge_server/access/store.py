"""The access file: certificates given, enrolment tokens, API keys. Secrets are in it only as hashes.

SQLite, because commands and the server write it at the same time. In write-ahead mode nobody who reads waits.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from edge_server.errors import ConfigurationError

_SCHEMA_VERSION = 1
_BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE certificates (
    serial TEXT PRIMARY KEY,       -- hexadecimal, lower case
    device_id TEXT NOT NULL,
    fingerprint TEXT NOT NULL,     -- SHA-256 of the DER
    issued_s REAL NOT NULL,        -- seconds since the Unix epoch, on this machine's clock; likewise below
    expires_s REAL NOT NULL,
    revoked_s REAL
) STRICT;
CREATE INDEX certificates_by_device ON certificates (device_id);
CREATE TABLE enrol_tokens (
    token_id TEXT PRIMARY KEY,
    device_id TEXT NOT NULL,
    stored_key BLOB NOT NULL,
    expires_s REAL NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    used_s REAL,
    key_digest BLOB,               -- SHA-256 of the key it was used for: a repeat gets the same certificate
    certificate TEXT,
    anchor BLOB                    -- of the clock that expires_s is told by: device_agent.lasting
) STRICT;
CREATE TABLE api_keys (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    created_s REAL NOT NULL,
    revoked_s REAL
) STRICT;
"""


def create(path: Path) -> None:
    """Make an empty access file that only its owner can read; leave one that is there alone.

    Raises:
        ConfigurationError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # SQLite gives its side files the mode of this one.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise ConfigurationError(f"access: {path} cannot be made: {error.strerror}") from error
    with closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version = {_SCHEMA_VERSION}; COMMIT;")


def connect(path: Path) -> sqlite3.Connection:
    """Open an access file.

    Raises:
        ConfigurationError: there is none, or it is something else.
    """
    if not path.is_file():
        raise ConfigurationError(
            f"access: there is no file {path}; make one with `edge-server certs init` or "
            "`edge-server keys add`"
        )
    try:
        # Only ever used by one thread at a time.
        database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        found = database.execute("PRAGMA user_version").fetchone()[0]
    except sqlite3.Error as error:
        raise ConfigurationError(f"access: {path} cannot be read: {error}") from error
    if found != _SCHEMA_VERSION:
        database.close()
        raise ConfigurationError(
            f"access: {path} has version {found} of its tables; this program knows {_SCHEMA_VERSION}"
        )
    database.row_factory = sqlite3.Row
    return database


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection with a write transaction, committed at the end unless something is raised.

    Raises:
        ConfigurationError: there is no access file, or it cannot be written.
    """
    with closing(connect(path)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise ConfigurationError(f"access: {path} cannot be written: {error}") from error
        try:
            _complete(database)
            yield database
        except BaseException:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")


def _complete(database: sqlite3.Connection) -> None:
    """Add what files of an earlier release lack; that release goes on reading them."""
    columns = {row["name"] for row in database.execute("PRAGMA table_info(enrol_tokens)")}
    if "anchor" not in columns:
        database.execute("ALTER TABLE enrol_tokens ADD COLUMN anchor BLOB")
