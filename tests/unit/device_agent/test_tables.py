"""Files of tables: made whole or not at all, and so is what is written to them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from device_agent.tables import immediate, open_tables

SCHEMA = "CREATE TABLE thing (name TEXT); CREATE TABLE other (name TEXT);"


def connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def test_tables_are_made_once_with_what_belongs_to_them(tmp_path: Path) -> None:
    db = connect(tmp_path / "file.db")
    for _ in range(2):
        assert open_tables(db, SCHEMA, 3, lambda: db.execute("INSERT INTO thing VALUES ('first')")) == 3
    assert db.execute("SELECT name FROM thing").fetchall() == [("first",)]
    assert [db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")] == [
        "wal",
        2,
    ]
    # Whoever writes another version is told which one it is.
    assert open_tables(db, SCHEMA, 4) == 3
    db.close()


def test_a_file_that_cannot_be_made_whole_has_nothing(tmp_path: Path) -> None:
    db = connect(tmp_path / "file.db")

    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        open_tables(db, SCHEMA, 1, fail)
    assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
    db.close()


def test_what_breaks_off_was_not_written(tmp_path: Path) -> None:
    db = connect(tmp_path / "file.db")
    open_tables(db, SCHEMA, 1)

    def break_off() -> None:
        with immediate(db):
            db.execute("INSERT INTO thing VALUES ('half')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    with immediate(db):
        db.execute("INSERT INTO thing VALUES ('whole')")
    assert db.execute("SELECT name FROM thing").fetchall() == [("whole",)]
    db.close()
