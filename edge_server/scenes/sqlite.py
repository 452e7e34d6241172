"""Scenes in an SQLite file: what a server keeps with ``--scenes FILE``.

    scene      one row a scene, with its tokens as received and its vector
    rule ...   standing questions and what they know; see :mod:`edge_server.scenes.rule_file`
    clock      how far the clocks of senders are from the server's
    thumbnail  small pictures for people, where a server was told to keep them
    untold     what other doors of a cluster are to be told of, where there are some (``telling``)
    search     signs of vectors, in memory ─▶ candidates ─▶ their vectors, from the file ─▶ the nearest

Every call that returns has its change on the disk. The index (:mod:`edge_server.scenes.sign_index`) is made
from the file when it is first searched, and again where another process has written.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from device_agent.tables import immediate, open_tables
from edge_server.errors import ConfigurationError
from edge_server.scenes.clocks import MAX_CLOCKS, SenderClock
from edge_server.scenes.scene import At, Scene, SceneBlock, Vector
from edge_server.scenes.sign_index import SAMPLE, SignIndex
from edge_server.scenes.store import Change, DeviceScenes, Eviction, Found, SceneBounds, Wanted, glob_of

SCHEMA_VERSION = 1
_BUSY_S = 5.0
_CANDIDATES, _CANDIDATES_EACH, _MOST_CANDIDATES = 512, 32, 4096
"""Scenes whose vectors are looked at in a search: at least these, for each one wanted, at most."""
_ROWS_AT_ONCE = 512
_GROWN = 4
"""An index that has grown so much over what its mean is of is made anew."""
_COLUMNS = "scene_id, device, start_s, length_s, bundle_hash, blocks, keep_until_s, space, vector"
_SCHEMA = """
CREATE TABLE scene (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    scene_id TEXT NOT NULL UNIQUE,
    device TEXT NOT NULL,
    start_s REAL NOT NULL,
    length_s REAL NOT NULL,
    bundle_hash TEXT NOT NULL,
    blocks BLOB NOT NULL,
    keep_until_s REAL NOT NULL,
    bytes INTEGER NOT NULL,
    space TEXT NOT NULL,
    vector BLOB
);
CREATE INDEX scene_by_device ON scene (device, start_s);
CREATE INDEX scene_by_time ON scene (start_s);
CREATE INDEX scene_by_end ON scene (keep_until_s);
CREATE TABLE rule (
    rule_id TEXT PRIMARY KEY,
    question TEXT NOT NULL,
    devices TEXT NOT NULL,
    becomes TEXT NOT NULL,
    for_s REAL NOT NULL,
    notify TEXT NOT NULL,
    created_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE rule_state (
    rule_id TEXT NOT NULL,
    device TEXT NOT NULL,
    is_on INTEGER,
    candidate INTEGER,
    since_s REAL NOT NULL,
    answer TEXT NOT NULL,
    asked_s REAL NOT NULL,
    PRIMARY KEY (rule_id, device)
) WITHOUT ROWID;
CREATE TABLE unjudged (number INTEGER PRIMARY KEY);
CREATE TABLE notice (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    url TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    device TEXT NOT NULL,
    is_on INTEGER NOT NULL,
    body TEXT NOT NULL
);
"""


# Files of servers before there was a history, clocks, thumbnails or other doors are read as they are.
_LATER = """
CREATE TABLE IF NOT EXISTS turn (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    rule_id TEXT NOT NULL,
    device TEXT NOT NULL,
    is_on INTEGER NOT NULL,
    answer TEXT NOT NULL,
    scene_id TEXT NOT NULL,
    turned_s REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS turn_by_rule ON turn (rule_id, number);
CREATE TABLE IF NOT EXISTS clock (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    sender TEXT NOT NULL UNIQUE,
    ahead_s REAL NOT NULL,
    latest_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS thumbnail (number INTEGER PRIMARY KEY, jpeg BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS telling (number INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS untold (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    scene_id TEXT NOT NULL UNIQUE,
    kept INTEGER NOT NULL,
    keep_until_s REAL NOT NULL
)
"""


class SqliteScenes:
    """Implements :class:`edge_server.scenes.store.SceneStore`.

    Args:
        path: of the file; made if need be, its folder too.
        bounds: how much is kept.

    Raises:
        ConfigurationError: it cannot be opened, or was written by another version.
    """

    def __init__(self, path: Path, bounds: SceneBounds | None = None) -> None:
        self.path = path
        self._bounds = bounds or SceneBounds()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
            path.chmod(0o600)
            self._prepare()
            # Who reads a file with a log waits for nobody who writes to it, nor for the disk.
            self._finding = sqlite3.connect(
                path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"scenes: {path} cannot be used: {error}") from error
        self._version = -1
        self._count = self._bytes = 0
        self._of_device: dict[str, int] = {}
        self._indexes: dict[str, SignIndex] = {}
        self._made_of: dict[str, int] = {}
        self._recount()

    @property
    def connection(self) -> sqlite3.Connection:
        """Of the file, for what else is kept in it; for the same thread."""
        return self._db

    def put(
        self, scene: Scene, clock: SenderClock | None = None, *, heard: bool = False
    ) -> dict[Eviction, int]:
        """Keep a scene; as the port says."""
        self._recount()
        gone: dict[Eviction, int] = {}
        with self.transaction():
            head = {"blocks": [[b.modality, b.token_length, b.snr_db, len(b.wire)] for b in scene.blocks]}
            packed = json.dumps(head).encode() + b"\n" + b"".join(block.wire for block in scene.blocks)
            vector = None if scene.vector is None else np.asarray(scene.vector, "<f4").tobytes()
            put = self._db.execute(
                f"INSERT OR IGNORE INTO scene ({_COLUMNS}, bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 (constants)
                (
                    *(scene.scene_id, scene.device, scene.start_s, scene.length_s, scene.bundle_hash),
                    *(packed, scene.keep_until_s, scene.space, vector, scene.size_bytes),
                ),
            )
            if not put.rowcount:
                return {}
            if clock is not None:
                self._keep_clock(clock)
            if scene.thumbnail:
                self._db.execute("INSERT INTO thumbnail VALUES (?, ?)", (put.lastrowid, scene.thumbnail))
            if self._db.execute("SELECT 1 FROM rule LIMIT 1").fetchone():
                self._db.execute("INSERT INTO unjudged VALUES (?)", (put.lastrowid,))
            if not heard:
                self._note("scene_id = ?", (scene.scene_id,), kept=True)
            self._count_in(scene.device, 1, scene.size_bytes)
            over = self._of_device[scene.device] - self._bounds.per_device
            if over > 0:
                which = "device = ? ORDER BY start_s, number LIMIT ?"
                gone["device_full"] = self._drop(which, (scene.device, over))
            while self._count > self._bounds.in_all or (self._bytes > self._bounds.max_bytes and self._count):
                over = max(self._count - self._bounds.in_all, 1)
                gone["full"] = gone.get("full", 0) + self._drop("1 ORDER BY start_s, number LIMIT ?", (over,))
        index = self._indexes.get(scene.space)
        if index is not None and scene.vector is not None:
            index.add(int(put.lastrowid or 0), scene.vector, scene.device, scene.start_s, scene.end_s)
        return gone

    def clocks(self) -> list[SenderClock]:
        """Clocks of senders; as the port says."""
        rows = self._db.execute("SELECT sender, ahead_s, latest_s FROM clock ORDER BY number")
        return [SenderClock(*row) for row in rows]

    def by_number(self, number: int) -> Scene | None:
        """A scene by its row; None: it is gone."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM scene WHERE number = ?", (number,)).fetchone()  # noqa: S608
        return None if row is None else _scene_of(row)

    def find(self, device: str, at: At) -> Scene | None:
        """A device's scene; as the port says."""
        given: tuple[Any, ...]
        if at.scene_id:
            where, given = "scene_id = ? AND device = ?", (at.scene_id, device)
        else:
            where = "device = ? AND start_s <= ? ORDER BY start_s DESC, number DESC LIMIT 1"
            given = (device, at.time_s)
        row = self._finding.execute(f"SELECT {_COLUMNS} FROM scene WHERE {where}", given).fetchone()  # noqa: S608
        return None if row is None else _scene_of(row)

    def thumbnail(self, scene_id: str) -> bytes:
        """A scene's small picture; as the port says."""
        row = self._db.execute(
            "SELECT jpeg FROM thumbnail JOIN scene USING (number) WHERE scene_id = ?", (scene_id,)
        ).fetchone()
        return b"" if row is None else bytes(row[0])

    def scenes(self, wanted: Wanted, most: int) -> list[Scene]:
        """The latest; as the port says."""
        where, given = _where(wanted)
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM scene WHERE {where} ORDER BY start_s DESC, number DESC LIMIT ?",  # noqa: S608
            (*given, most),
        )
        return [_scene_of(row) for row in rows]

    def devices(self, wanted: Wanted) -> list[DeviceScenes]:
        """Devices; as the port says."""
        where, given = _where(wanted)
        rows = self._db.execute(
            "SELECT device, count(*), sum(bytes), min(start_s), max(start_s) FROM scene "  # noqa: S608
            f"WHERE {where} GROUP BY device ORDER BY device",
            given,
        )
        return [DeviceScenes(*row) for row in rows]

    def search(self, space: str, vector: Vector, wanted: Wanted, most: int) -> list[Found]:
        """By signs, then by vectors; as the port says."""
        index = self._index(space, len(vector))
        if index is None or most < 1:
            return []
        candidates = min(max(_CANDIDATES, _CANDIDATES_EACH * most), _MOST_CANDIDATES)
        numbers = [int(number) for number in index.nearest(vector, wanted, candidates)]
        kept, scores = [], []
        for first in range(0, len(numbers), _ROWS_AT_ONCE):
            some = numbers[first : first + _ROWS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            rows = self._db.execute(f"SELECT number, vector FROM scene WHERE number IN ({marks})", some)  # noqa: S608
            for number, packed in rows:
                kept.append(number)
                scores.append(float(np.frombuffer(packed, "<f4") @ vector))
        best = sorted(range(len(kept)), key=lambda i: (-scores[i], -kept[i]))[:most]
        found = ((self.by_number(kept[i]), scores[i]) for i in best)
        return [Found(scene, score) for scene, score in found if scene is not None]

    def delete(self, wanted: Wanted) -> int:
        """Delete for good; as the port says."""
        where, given = _where(wanted)
        self._recount()
        with self.transaction():
            self._note(where, given, kept=False)
            gone = self._drop(where, given)
        self._empty_log()
        return gone

    def expire(self, now_s: float) -> int:
        """Delete what is over; as the port says."""
        self._recount()
        with self.transaction():
            self._db.execute("DELETE FROM untold WHERE keep_until_s <= ?", (now_s,))
            return self._drop("keep_until_s <= ?", (now_s,))

    def count(self) -> int:
        """Scenes that are kept."""
        self._recount()
        return self._count

    def begin_telling(self) -> None:
        """Note what others are to be told of, also by other processes; as the port says."""
        with self.transaction():
            if self._db.execute("INSERT OR IGNORE INTO telling VALUES (1)").rowcount:
                self._note("1", (), kept=True)

    def untold(self, most: int) -> list[Change]:
        """What others are to be told of; as the port says."""
        rows = self._db.execute("SELECT scene_id, kept FROM untold ORDER BY number LIMIT ?", (most,))
        return [Change(scene_id, bool(kept)) for scene_id, kept in rows]

    def told(self, changes: Iterable[Change]) -> None:
        """Others were told; as the port says."""
        with self.transaction():
            self._db.executemany(
                "DELETE FROM untold WHERE scene_id = ? AND kept = ?",
                ((each.scene_id, each.kept) for each in changes),
            )

    def missing(self, scene_ids: Iterable[str]) -> list[str]:
        """Those that are not kept; as the port says."""
        known = "SELECT 1 FROM scene WHERE scene_id = ?"
        return [each for each in scene_ids if self._db.execute(known, (each,)).fetchone() is None]

    def whole(self, scene_id: str) -> Scene | None:
        """A scene; as the port says."""
        row = self._db.execute(f"SELECT {_COLUMNS} FROM scene WHERE scene_id = ?", (scene_id,)).fetchone()  # noqa: S608
        return None if row is None else replace(_scene_of(row), thumbnail=self.thumbnail(scene_id))

    def drop(self, scene_ids: Iterable[str]) -> int:
        """Delete what others have deleted; as the port says."""
        self._recount()
        with self.transaction():
            gone = sum(self._drop("scene_id = ?", (scene_id,)) for scene_id in scene_ids)
        if gone:
            self._empty_log()
        return gone

    def close(self) -> None:
        """Close the file."""
        self._finding.close()
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """What is written in here is on the disk at its end, or not at all."""
        try:
            with immediate(self._db):
                yield
        except BaseException:
            self._version = -1  # what was counted within it is not there
            raise

    def _note(self, where: str, given: Sequence[Any], *, kept: bool) -> None:
        """Note scenes that others are to be told of, within a transaction; nothing where there are none."""
        if self._db.execute("SELECT 1 FROM telling").fetchone():
            self._db.execute(
                "INSERT OR REPLACE INTO untold (scene_id, kept, keep_until_s) "  # noqa: S608 (constants)
                f"SELECT scene_id, {int(kept)}, keep_until_s FROM scene WHERE {where} ORDER BY number",
                given,
            )

    def _empty_log(self) -> None:
        """What was overwritten in the file is also in the log beside it, until that is emptied."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _keep_clock(self, clock: SenderClock) -> None:
        """Note a sender's clock, within a transaction; whoever shared last has the highest number."""
        self._db.execute(
            "INSERT OR REPLACE INTO clock (sender, ahead_s, latest_s) VALUES (?, ?, ?)",
            (clock.sender, clock.ahead_s, clock.latest_s),
        )
        # Numbers have gaps: only where there may be too many is it worth counting.
        (span,) = self._db.execute("SELECT max(number) - min(number) FROM clock").fetchone()
        if span >= MAX_CLOCKS:
            self._db.execute(
                "DELETE FROM clock WHERE number IN "
                "(SELECT number FROM clock ORDER BY number DESC LIMIT -1 OFFSET ?)",
                (MAX_CLOCKS,),
            )

    def _prepare(self) -> None:
        db = self._db
        db.execute("PRAGMA secure_delete = ON")
        version = open_tables(db, _SCHEMA, SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise ConfigurationError(
                f"scenes: {self.path} has schema version {version}, this server writes {SCHEMA_VERSION}; "
                "name another file"
            )
        with self.transaction():
            for statement in _LATER.split(";"):
                db.execute(statement)

    def _index(self, space: str, dim: int) -> SignIndex | None:
        """The index of a space; None: nothing is in it, or in another number of dimensions."""
        self._recount()
        index = self._indexes.get(space)
        # A mean of few vectors is not that of many.
        if (
            index is not None
            and len(index) > _GROWN * max(self._made_of[space], 64)
            and len(index) < 2 * SAMPLE
        ):
            index = None
        if index is None:
            index = self._indexed(space, dim)
            if index is not None:
                self._indexes[space], self._made_of[space] = index, len(index)
        return index

    def _indexed(self, space: str, dim: int) -> SignIndex | None:
        columns = "number, vector, device, start_s, start_s + length_s"
        rows = self._db.execute(
            f"SELECT {columns} FROM scene WHERE space = ? AND vector IS NOT NULL AND length(vector) = ?",  # noqa: S608
            (space, 4 * dim),
        )
        index = None
        while some := rows.fetchmany(SAMPLE):
            numbers, packed, devices, starts_s, ends_s = (list(column) for column in zip(*some, strict=True))
            vectors_ND = np.frombuffer(b"".join(packed), "<f4").reshape(-1, dim)
            if index is None:
                index = SignIndex(dim, np.asarray(vectors_ND.mean(axis=0), np.float32))
            index.add_all(np.array(numbers, np.int64), vectors_ND, devices, starts_s, ends_s)
        return index

    def _drop(self, where: str, given: Sequence[Any]) -> int:
        """Delete rows with what the indexes have of them, within a transaction."""
        which = f"SELECT number, device, bytes, space FROM scene WHERE {where}"  # noqa: S608
        rows = self._db.execute(which, given).fetchall()
        for number, device, size, space in rows:
            if space in self._indexes:
                self._indexes[space].remove(number)
            self._count_in(device, -1, -size)
        for table in ("scene", "thumbnail"):
            gone = ((row[0],) for row in rows)
            self._db.executemany(f"DELETE FROM {table} WHERE number = ?", gone)  # noqa: S608 (constants)
        return len(rows)

    def _count_in(self, device: str, scenes: int, size: int) -> None:
        self._count += scenes
        self._bytes += size
        self._of_device[device] = self._of_device.get(device, 0) + scenes
        if not self._of_device[device]:
            del self._of_device[device]

    def _recount(self) -> None:
        """Count anew, where another process has written since, or a transaction failed."""
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._version:
            return
        self._version = version
        self._indexes.clear()
        rows = self._db.execute("SELECT device, count(*), sum(bytes) FROM scene GROUP BY device").fetchall()
        self._of_device = {device: count for device, count, _ in rows}
        self._count = sum(count for _, count, _ in rows)
        self._bytes = sum(size for _, _, size in rows)


def _where(wanted: Wanted) -> tuple[str, tuple[Any, ...]]:
    """What is wanted, as a condition on scenes."""
    conditions, given = ["start_s < ?", "start_s + length_s > ?"], [wanted.until_s, wanted.since_s]
    for patterns in (wanted.devices, wanted.readable):
        if patterns is not None and "*" not in patterns:
            conditions.append(f"({' OR '.join(['device GLOB ?'] * len(patterns)) or '0'})")
            given += [glob_of(pattern) for pattern in patterns]  # type: ignore[misc]
    return " AND ".join(conditions), tuple(given)


def _scene_of(row: Sequence[Any]) -> Scene:
    scene_id, device, start_s, length_s, bundle_hash, packed, keep_until_s, space, vector = row
    head, _, rest = bytes(packed).partition(b"\n")
    blocks, place = [], 0
    for modality, token_length, snr_db, size in json.loads(head)["blocks"]:
        blocks.append(SceneBlock(modality, token_length, snr_db, rest[place : place + size]))
        place += size
    return Scene(
        *(scene_id, device, start_s, length_s, bundle_hash, tuple(blocks), keep_until_s, space),
        None if vector is None else np.frombuffer(vector, "<f4"),
    )
