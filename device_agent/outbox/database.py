"""The file that the outbox is kept in: its schema, its transactions, what its faults mean.

One connection of one thread; several processes may have the file open. Every transaction that has ended is on
the disk. A file that is found damaged is put aside when it is opened, and what can be read of it is kept.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from device_agent.errors import OutboxDamagedError, OutboxError, OutboxFullError
from device_agent.lasting import CREDIBLE_FROM_S, LastingClock
from device_agent.outbox.salvage import (
    DAMAGE,
    Table,
    is_damaged,
    one_at_a_time,
    put_aside,
    result_code,
    salvage,
)
from device_agent.tables import immediate, open_tables

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_BUSY_TIMEOUT_S = 10.0
_PAGE_BYTES = 4096
_SCHEMA = """
CREATE TABLE question (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    request_id TEXT NOT NULL UNIQUE,
    digest BLOB NOT NULL,
    source TEXT NOT NULL,
    label TEXT NOT NULL,
    created_at_s REAL NOT NULL,
    bundle_hash TEXT NOT NULL,
    message BLOB,
    bytes INTEGER NOT NULL,
    facts TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT NOT NULL DEFAULT '',
    record TEXT NOT NULL DEFAULT '{}',
    ended_at_s REAL,
    unacknowledged INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX by_state ON question (state, number, bytes, created_at_s);
CREATE INDEX by_source ON question (source, state, number);
CREATE INDEX by_acknowledgement ON question (number) WHERE unacknowledged;
CREATE TABLE seen (
    source TEXT NOT NULL,
    name TEXT NOT NULL,
    size INTEGER NOT NULL,
    changed_ns INTEGER NOT NULL,
    PRIMARY KEY (source, name)
) WITHOUT ROWID;
CREATE TABLE counter (outcome TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE about (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""

_TABLES = (
    Table("about", ("name", "value")),
    Table("counter", ("outcome", "count")),
    Table("seen", ("source", "name", "size", "changed_ns")),
    Table(
        "question",
        (
            *("number", "request_id", "digest", "source", "label", "created_at_s", "bundle_hash", "message"),
            *("bytes", "facts", "state", "outcome", "record", "ended_at_s", "unacknowledged"),
        ),
        key="number",
    ),
)


class SpoolFile:
    """An SQLite file with the tables of an outbox.

    Args:
        path: of the file; made if need be, its folder too.
        max_bytes: it does not grow much beyond this [bytes].
        clock: what times in it are told by; goes on from where the file left it.

    Attributes:
        db: the connection; what is read or written through it is within :meth:`reading` or
            :meth:`transaction`.

    Raises:
        OutboxError: it cannot be opened, or was written by another version.
    """

    def __init__(self, path: Path, max_bytes: int, clock: LastingClock) -> None:
        self.path = path
        self._clock = clock
        # There once the file was found damaged in a place that no quick look finds.
        self._suspect = path.with_name(f"{path.name}.suspect")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(path), self._errors("opened"):
                self.db = self._connect()
                try:
                    self._open(max_bytes)
                except BaseException:
                    self.db.close()
                    raise
                found = path.stat()
        except OSError as error:
            raise OutboxError(f"outbox: {path} cannot be opened: {error.strerror or error}") from error
        self._identity = (found.st_dev, found.st_ino)

    def close(self) -> None:
        """Close the file."""
        self.db.close()

    @property
    def is_current(self) -> bool:
        """Whether the path still names the file that is open: another process may have put it aside."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return (found.st_dev, found.st_ino) == self._identity

    def keep_time(self) -> None:
        """Note, in a transaction, from where the clock is to go on after this process or this boot."""
        self.db.execute("INSERT OR REPLACE INTO about VALUES ('clock', ?)", (self._clock.anchor(),))

    @property
    def device_key(self) -> str:
        """Made with the file and kept in it: by this, a server knows the device again after a restart."""
        return self.note("device_key", b"").decode()

    def note(self, name: str, default: bytes) -> bytes:
        """Something small that was noted, or the default."""
        with self.reading():
            row = self.db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return bytes(row[0]) if row is not None else default

    def take_note(self, name: str, value: bytes) -> None:
        """Note something small under a name."""
        if self.note(name, b"") != value:
            with self.transaction():
                self.db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever cannot be read in here is an :class:`OutboxError`."""
        with self._errors("read"):
            yield

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written in here is on the disk at its end, or not at all.

        Raises:
            OutboxFullError: the disk is full.
            OutboxError: it cannot be written for another reason.
        """
        with self._errors("written"), immediate(self.db):
            yield

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)

    def _open(self, max_bytes: int) -> None:
        aside = None
        if self._suspect.exists() or is_damaged(self.db, self.path):
            self.db.close()
            aside = put_aside(self.path)
            self.db = self._connect()
        self._prepare(max_bytes)
        if aside is not None:
            with self.transaction():
                saved = salvage(aside, self.db, _TABLES)
            logger.warning(
                "outbox: %s was damaged; it is kept as %s, and %d rows that could be read go on from here",
                *(self.path, aside, saved),
            )
            self._suspect.unlink(missing_ok=True)
        with self.transaction():
            self._resume()

    def _resume(self) -> None:
        row = self.db.execute("SELECT value FROM about WHERE name = 'clock'").fetchone()
        if (row is None or not self._clock.resume(bytes(row[0]))) and self._clock.is_set:
            # Asked by an earlier version while the clock was not set: how long ago, nobody knows.
            self.db.execute(
                "UPDATE question SET created_at_s = ? WHERE state = 'waiting' AND created_at_s < ?",
                (self._clock(), CREDIBLE_FROM_S),
            )
        self.keep_time()

    def _prepare(self, max_bytes: int) -> None:
        db = self.db

        def name_device() -> None:
            db.execute("INSERT INTO about VALUES ('device_key', ?)", (secrets.token_hex(4).encode("ascii"),))

        version = open_tables(db, _SCHEMA, SCHEMA_VERSION, name_device)
        if version != SCHEMA_VERSION:
            raise OutboxError(
                f"outbox: {self.path} has schema version {version}, this agent writes {SCHEMA_VERSION}; "
                "name another file with --outbox"
            )
        db.execute(f"PRAGMA max_page_count = {max_bytes // _PAGE_BYTES + 256}")

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = result_code(error)
            if code in DAMAGE:
                with suppress(OSError):
                    self._suspect.touch()
                raise OutboxDamagedError(f"outbox: {self.path} is damaged: {error}") from error
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise OutboxFullError(
                    f"outbox: {self.path} cannot be {doing} ({error}); free space on its disk, "
                    "or name another place with --outbox"
                ) from error
            raise OutboxError(f"outbox: {self.path} cannot be {doing}: {error}") from error
