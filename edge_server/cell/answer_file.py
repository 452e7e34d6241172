"""Kept answers in an SQLite file, so that they outlive the process.

    put, forget ──▶ queue ──▶ one thread: as many as there are, one transaction, one sync ──▶ futures done

The event loop never waits for the disk. What cannot be written (a full disk) is logged and counted, and the
answer goes to its device all the same: a lost copy costs at most a second run of the model, never an answer.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from edge_server.cell.answers import KeptAnswer, Key
from edge_server.engine import Completion
from edge_server.errors import ConfigurationError

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_MOST_AT_ONCE = 512
_BUSY_TIMEOUT_S = 5.0
_SCHEMA = """
CREATE TABLE answer (
    device_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    digest BLOB NOT NULL,
    text TEXT NOT NULL,
    probability REAL NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    answer_tokens INTEGER NOT NULL,
    queue_s REAL NOT NULL,
    compute_s REAL NOT NULL,
    finish_reason TEXT NOT NULL,
    answered_at_s REAL NOT NULL,
    PRIMARY KEY (device_id, request_id)
) WITHOUT ROWID
"""

_Put: TypeAlias = tuple[KeptAnswer, "asyncio.Future[None]"]
_Task: TypeAlias = "_Put | Sequence[Key] | None"


class AnswerFile:
    """Implements :class:`edge_server.cell.answers.AnswerStore`.

    Args:
        path: of the file; made if need be, its folder too.
        on_error: called, from the thread, each time something could not be written.

    Raises:
        ConfigurationError: it cannot be opened, is no such file, or was written by another version.
    """

    def __init__(self, path: Path, on_error: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._on_error = on_error
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._restored = self._open_and_read()
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"answers: {path} cannot be used: {error}") from error
        self._tasks: queue.SimpleQueue[_Task] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tokenlink-answers", daemon=True)
        self._thread.start()

    def restored(self) -> list[KeptAnswer]:
        """What an earlier process left, oldest first; given away once."""
        restored, self._restored = self._restored, []
        return restored

    def put(self, answer: KeptAnswer) -> asyncio.Future[None]:
        """Write an answer; the future is done once it is safe, or known not to become so."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks.put((answer, done))
        return done

    def forget(self, keys: Sequence[Key]) -> None:
        """Delete these."""
        self._tasks.put(list(keys))

    def close(self) -> None:
        """Write what is left, and end the thread."""
        self._tasks.put(None)
        self._thread.join()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # Safe is what survives a power cut; one sync serves all answers of a transaction.
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _open_and_read(self) -> list[KeptAnswer]:
        connection = self._connect()
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("COMMIT")
            elif version != SCHEMA_VERSION:
                raise ConfigurationError(
                    f"answers: {self._path} has schema version {version}, "
                    f"this server writes {SCHEMA_VERSION}; name another "
                    "file, or remove it (its answers are then computed again)"
                )
            rows = connection.execute("SELECT * FROM answer ORDER BY answered_at_s").fetchall()
        finally:
            connection.close()
        return [
            KeptAnswer(device_id, request_id, digest, Completion(*completion), answered_at_s)
            for device_id, request_id, digest, *completion, answered_at_s in rows
        ]

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        ended = False
        while not ended:
            tasks = [self._tasks.get()]
            while len(tasks) < _MOST_AT_ONCE and not self._tasks.empty():
                tasks.append(self._tasks.get())
            ended = None in tasks
            try:
                connection = connection or self._connect()
                self._write(connection, tasks)
            except sqlite3.Error as error:
                logger.error("kept answers could not be written: %s", error, extra={"file": str(self._path)})
                self._on_error()
                if connection is not None:
                    # A connection that failed once is not asked how far it got.
                    connection.close()
                    connection = None
            for task in tasks:
                if isinstance(task, tuple):
                    _finish(task[1])
        if connection is not None:
            connection.close()

    def _write(self, connection: sqlite3.Connection, tasks: Sequence[_Task]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for task in tasks:
            if isinstance(task, tuple):
                answer = task[0]
                c = answer.completion
                connection.execute(
                    "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(answer.device_id, answer.request_id, answer.digest, c.text, c.probability),
                        *(c.prompt_tokens, c.answer_tokens, c.queue_s, c.compute_s, c.finish_reason),
                        answer.answered_at_s,
                    ),
                )
            elif task is not None:
                connection.executemany("DELETE FROM answer WHERE device_id = ? AND request_id = ?", task)
        connection.execute("COMMIT")


def _finish(done: asyncio.Future[None]) -> None:
    def finish() -> None:
        if not done.done():
            done.set_result(None)

    try:
        done.get_loop().call_soon_threadsafe(finish)
    except RuntimeError:
        logger.debug("an answer was written after its event loop had closed")
