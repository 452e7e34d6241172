"""SQLite files that survive kills and power cuts: how they are opened, and how they are written to."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LOG_BYTES = 4 * 2**20
"""The log beside a file is cut back to this, once it has grown."""


def open_tables(
    db: sqlite3.Connection, schema: str, version: int, made: Callable[[], object] = lambda: None
) -> int:
    """Have a file keep what is committed, and make its tables if it has none.

    Args:
        db: open, without an isolation level of its own.
        schema: statements, each behind a semicolon.
        version: of the schema; noted in the file.
        made: called within the transaction that makes the tables.

    Returns:
        The version that the file has; whether it is one that is known, the caller knows.
    """
    db.execute("PRAGMA journal_mode = WAL")
    # What was committed survives a power cut, not only a kill.
    db.execute("PRAGMA synchronous = FULL")
    db.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    with immediate(db):
        found = int(db.execute("PRAGMA user_version").fetchone()[0])
        if found:
            return found
        for statement in schema.split(";"):
            db.execute(statement)
        made()
        db.execute(f"PRAGMA user_version = {version}")
    return version


@contextmanager
def immediate(db: sqlite3.Connection) -> Iterator[None]:
    """What is written in here is on the disk at its end, or not at all."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
