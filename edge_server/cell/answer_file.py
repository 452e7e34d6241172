"""Kept answers in an SQLite file, so that they outlive the process.

    put, forget ──▶ queue ──▶ one thread: as many as there are, one transaction, one sync ──▶ futures done

The event loop never waits for the disk. What cannot be written (a full disk) is logged and counted, and the
answer goes to its device all the same: a lost copy costs at most a second run of the model, never an answer.
While somebody else locks the file, answers do not wait for it; they are written when it is free again. A file
that is damaged is put aside, and what can be read of it is kept.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from edge_server.cell.answers import KeptAnswer, Key
from edge_server.engine import Completion
from edge_server.errors import ConfigurationError

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 3
_MOST_AT_ONCE = 512
_OPENING_TIMEOUT_S = 5.0
PATIENCE_S = 0.25
"""So long the first answers wait for a file that somebody else has locked [s]; the next ones do not."""
_AGAIN_S = 0.5
"""Between two tries to write what was left over for a lock [s]."""
_MOST_LEFT_OVER = 16_384
_DAMAGE = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))
_LOCKED = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
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
    logprobs BLOB NOT NULL DEFAULT x'',
    confidence REAL DEFAULT NULL,
    abstained INTEGER NOT NULL DEFAULT 0,
    guess TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (device_id, request_id)
) WITHOUT ROWID
"""
#: What each version has that the one before had not.
_SINCE = {
    2: ("logprobs BLOB NOT NULL DEFAULT x''",),
    3: (
        "confidence REAL DEFAULT NULL",
        "abstained INTEGER NOT NULL DEFAULT 0",
        "guess TEXT NOT NULL DEFAULT ''",
    ),
}
_ABOUT = "CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID"

_Put: TypeAlias = tuple[KeptAnswer, "asyncio.Future[None] | None"]
_Task: TypeAlias = "_Put | Sequence[Key] | None"


class Timekeeper(Protocol):
    """The port to a clock that goes on across restarts, whatever is done to the wall clock."""

    def anchor(self) -> bytes:
        """What it needs to go on from here, to be kept with the answers."""

    def resume(self, anchor: bytes) -> bool:
        """Go on from there; False where that says nothing."""


class AnswerFile:
    """Implements :class:`edge_server.cell.answers.AnswerStore`.

    Args:
        path: of the file; made if need be, its folder too.
        timekeeper: by whom the answers' times are told; goes on from where the file left it.
        on_error: called, from the thread, each time something could not be written.

    Raises:
        ConfigurationError: it cannot be opened, is no such file, or was written by another version.
    """

    def __init__(
        self,
        path: Path,
        on_error: Callable[[], None] = lambda: None,
        *,
        timekeeper: Timekeeper | None = None,
    ) -> None:
        self._path = path
        self._on_error = on_error
        self._timekeeper = timekeeper
        self._left_over: deque[_Task] = deque(maxlen=_MOST_LEFT_OVER)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._restored = self._open_and_read()
            except sqlite3.DatabaseError as error:
                if _code(error) not in _DAMAGE:
                    raise
                self._restored = self._begin_anew()
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

    def _connect(self, timeout_s: float) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=timeout_s, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        # Safe is what survives a power cut; one sync serves all answers of a transaction.
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _open_and_read(self) -> list[KeptAnswer]:
        connection = self._connect(_OPENING_TIMEOUT_S)
        try:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                connection.execute("BEGIN IMMEDIATE")
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("COMMIT")
            elif 1 <= version < SCHEMA_VERSION:
                connection.execute("BEGIN IMMEDIATE")
                for since in range(version + 1, SCHEMA_VERSION + 1):
                    for column in _SINCE[since]:
                        connection.execute(f"ALTER TABLE answer ADD COLUMN {column}")
                connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
                connection.execute("COMMIT")
            elif version != SCHEMA_VERSION:
                raise ConfigurationError(
                    f"answers: {self._path} has schema version {version}, "
                    f"this server writes {SCHEMA_VERSION}; name another "
                    "file, or remove it (its answers are then computed again)"
                )
            connection.execute(_ABOUT)
            kept = connection.execute("SELECT value FROM about WHERE name = 'clock'").fetchone()
            rows = connection.execute("SELECT * FROM answer ORDER BY answered_at_s").fetchall()
            if self._timekeeper is not None:
                if kept is not None:
                    self._timekeeper.resume(bytes(kept[0]))
                self._keep_time(connection)
        finally:
            connection.close()
        return [_answer_of(row) for row in rows]

    def _begin_anew(self) -> list[KeptAnswer]:
        """Put a damaged file aside; its answers, as far as they can be read, go into a new one."""
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.damaged-{number}")).exists():
            number += 1
        for suffix in ("-wal", "-shm", "-journal", ""):
            file = self._path.with_name(self._path.name + suffix)
            if file.exists():
                file.replace(aside.with_name(aside.name + suffix))
        answers: list[KeptAnswer] = []
        damaged = sqlite3.connect(aside, isolation_level=None)
        try:
            for row in damaged.execute("SELECT * FROM answer"):
                answers.append(_answer_of(row))
        except (sqlite3.Error, TypeError, ValueError) as error:
            logger.debug("%s cannot be read further: %s", aside, error)
        finally:
            damaged.close()
        logger.error(
            "the file of kept answers was damaged; %d answers could be read",
            *(len(answers),),
            extra={"file": str(self._path), "kept_as": str(aside)},
        )
        answers = sorted([*self._open_and_read(), *answers], key=lambda answer: answer.answered_at_s)
        connection = self._connect(_OPENING_TIMEOUT_S)
        try:
            self._write(connection, [(answer, None) for answer in answers])
        finally:
            connection.close()
        return answers

    def _mended(self, error: sqlite3.Error) -> bool:
        """Whether the file was damaged, and a new one is in its place."""
        if _code(error) not in _DAMAGE:
            return False
        try:
            self._begin_anew()
        except (sqlite3.Error, OSError) as trouble:
            logger.error("no new file of kept answers could be begun: %s", trouble)
            return False
        return True

    def _keep_time(self, connection: sqlite3.Connection) -> None:
        if self._timekeeper is not None:
            connection.execute(
                "INSERT OR REPLACE INTO about VALUES ('clock', ?)", (self._timekeeper.anchor(),)
            )

    def _next(self) -> list[_Task]:
        """What there is to write, waited for; nothing, where something was left over that may go now."""
        try:
            tasks = [self._tasks.get(timeout=_AGAIN_S if self._left_over else None)]
        except queue.Empty:
            return []
        while len(tasks) < _MOST_AT_ONCE and not self._tasks.empty():
            tasks.append(self._tasks.get())
        return tasks

    def _run(self) -> None:
        connection: sqlite3.Connection | None = None
        ended = False
        while not ended:
            tasks = self._next()
            ended = None in tasks
            waits = not self._left_over or ended
            try:
                connection = connection or self._connect(PATIENCE_S)
                connection.execute(f"PRAGMA busy_timeout = {round(PATIENCE_S * 1000) if waits else 0}")
                self._write(connection, [*self._left_over, *tasks])
                self._left_over.clear()
            except sqlite3.Error as error:
                locked = _code(error) in _LOCKED
                if waits or not locked:
                    logger.error(
                        "kept answers could not be written: %s", error, extra={"file": str(self._path)}
                    )
                    self._on_error()
                if locked or self._mended(error):
                    self._left_over += [task for task in tasks if task is not None]
                else:
                    self._left_over.clear()
                if connection is not None:
                    # A connection that failed once is not asked how far it got.
                    connection.close()
                    connection = None
            for task in tasks:
                if isinstance(task, tuple) and task[1] is not None:
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
                    "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(answer.device_id, answer.request_id, answer.digest, c.text, c.probability),
                        *(c.prompt_tokens, c.answer_tokens, c.queue_s, c.compute_s, c.finish_reason),
                        *(answer.answered_at_s, np.asarray(c.logprobs, "<f8").tobytes()),
                        *(c.confidence, int(c.abstained), c.guess),
                    ),
                )
            elif task is not None:
                connection.executemany("DELETE FROM answer WHERE device_id = ? AND request_id = ?", task)
        self._keep_time(connection)
        connection.execute("COMMIT")


def _answer_of(row: Sequence[Any]) -> KeptAnswer:
    device_id, request_id, digest, *completion = row[:10]
    # A damaged file may be of an older version, without the last columns.
    filled = (*row[10:], *(None, b"", None, 0, "")[len(row) - 10 :])
    answered_at_s, logprobs, confidence, abstained, guess = filled
    kept = replace(
        Completion(*completion),
        logprobs=tuple(np.frombuffer(logprobs, "<f8").tolist()),
        confidence=confidence,
        abstained=bool(abstained),
        guess=guess,
    )
    return KeptAnswer(device_id, request_id, digest, kept, float(answered_at_s))


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _finish(done: asyncio.Future[None]) -> None:
    def finish() -> None:
        if not done.done():
            done.set_result(None)

    try:
        done.get_loop().call_soon_threadsafe(finish)
    except RuntimeError:
        logger.debug("an answer was written after its event loop had closed")
