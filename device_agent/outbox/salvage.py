"""A damaged SQLite file is put aside, and what can be read of it goes into a new one.

A power cut in the wrong moment, a worn card: the next process must not stop at that. The damaged file is kept
beside the new one, for whoever wants to look.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

logger = logging.getLogger(__name__)

DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
"""Primary result codes that say that a file is damaged."""
_SIDE_FILES = ("-wal", "-shm", "-journal")
_CHECKED_BYTES = 64 * 2**20
"""Files up to this size are looked through as a whole when they are opened [bytes]."""


@dataclass(frozen=True)
class Table:
    """What to save of a table.

    Attributes:
        name: of it.
        columns: to copy; those that the damaged file lacks leave the table empty.
        key: column of whole numbers that is its rowid; empty: it is read from end to end only.
    """

    name: str
    columns: Sequence[str]
    key: str = ""


def result_code(error: sqlite3.Error) -> int:
    """The primary result code of SQLite that an error stands for."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def is_damaged(database: sqlite3.Connection, path: Path) -> bool:
    """Whether an open file is damaged, as far as that is found out in reasonable time.

    Raises:
        sqlite3.Error: it cannot be read for another reason.
    """
    try:
        database.execute("PRAGMA schema_version").fetchone()
        if path.stat().st_size <= _CHECKED_BYTES:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
            return bool(verdict != "ok")
    except sqlite3.DatabaseError as error:
        if result_code(error) in DAMAGE:
            return True
        raise
    return False


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Held by a process while it opens, and perhaps replaces, a file that several share.

    Raises:
        OSError: the lock beside the file cannot be made.
    """
    lock = os.open(path.with_name(f"{path.name}.opening"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def put_aside(path: Path) -> Path:
    """Rename a damaged file and what SQLite keeps beside it.

    Returns:
        Its new name, which no file had.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    for suffix in _SIDE_FILES:
        side = path.with_name(path.name + suffix)
        if side.exists():
            side.replace(aside.with_name(aside.name + suffix))
    path.replace(aside)
    return aside


def salvage(aside: Path, into: sqlite3.Connection, tables: Sequence[Table]) -> int:
    """Copy what can be read, row by row.

    Args:
        aside: the damaged file.
        into: the new one, with these tables, in a transaction. What it holds already stays.
        tables: to copy.

    Returns:
        How many rows there were.
    """
    saved = 0
    source = sqlite3.connect(aside, isolation_level=None)
    source.text_factory = lambda raw: raw.decode("utf-8", "replace")
    try:
        # Pages that a damaged index leads to wrongly are no reason to stop at a table's own.
        source.execute("PRAGMA cell_size_check = ON")
        for table in tables:
            insert = (
                f"INSERT OR REPLACE INTO {table.name} ({', '.join(table.columns)}) "  # noqa: S608 (constants)
                f"VALUES ({', '.join('?' * len(table.columns))})"
            )
            for row in _rows(source, table):
                # A row whose fields are not what they were is worth no more than one that is gone.
                with contextlib.suppress(sqlite3.IntegrityError, sqlite3.InterfaceError, UnicodeError):
                    into.execute(insert, row)
                    saved += 1
    except sqlite3.Error as error:
        logger.debug("%s cannot be read further: %s", aside, error)
    finally:
        source.close()
    return saved


def _rows(source: sqlite3.Connection, table: Table) -> Iterator[tuple[object, ...]]:
    what = f"SELECT {', '.join(table.columns)} FROM {table.name} NOT INDEXED"  # noqa: S608 (constants)
    last: int | None = None
    place = list(table.columns).index(table.key) if table.key else -1
    try:
        for row in source.execute(f"{what} ORDER BY {table.key}" if table.key else what):
            yield row
            if table.key:
                last = row[place]
    except (sqlite3.DatabaseError, UnicodeError):
        if table.key:
            yield from _rows_from_the_end(source, table, what, last)


def _rows_from_the_end(
    source: sqlite3.Connection, table: Table, what: str, last: int | None
) -> Iterator[tuple[object, ...]]:
    # Behind the damage, as far as a walk from the other end leads.
    found: list[tuple[object, ...]] = []
    beyond = -1 if last is None else last
    with contextlib.suppress(sqlite3.DatabaseError, UnicodeError):
        for row in source.execute(f"{what} WHERE {table.key} > ? ORDER BY {table.key} DESC", (beyond,)):
            found.append(row)
    yield from reversed(found)
