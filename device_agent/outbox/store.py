"""The outbox on disk: questions that wait for the network, and their answers, in one SQLite file.

    put ──▶ waiting ──▶ ended (answered, refused, failed, expired, evicted, removed) ──▶ delivered
             question     outcome                                                        shown, once

Every arrow is one committed transaction, synced to the disk, and each is taken once, whatever is killed in
between. The promise: a question is *executed at least once* (a kill between the server's answer and ``ended``
runs it again, or is given the answer that the server kept) and its outcome is *delivered exactly once*.
Delivery is the arrow to ``delivered``; it is committed **before** anything is shown. A kill between the two
can therefore cost a line on a terminal, never the answer: it stays in this file, and ``device-agent outbox
list --all`` shows it.

Outcomes of one source (a watched folder, one ``ask``) are delivered in the order of asking. A question that
ends without an answer takes its turn like the others: nothing is dropped in silence.

Blocking, for one thread; :mod:`device_agent.outbox.outbox` is for the event loop. Several processes may
share the file.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from device_agent.errors import ConfigurationError
from device_agent.lasting import LastingClock
from device_agent.outbox.database import SpoolFile
from device_agent.outbox.records import Bounds, Delivery, Entry, NewQuestion, OutboxEnd, Stamp, Waiting
from protos.tokenlink.v1 import tokenlink_pb2 as pb

logger = logging.getLogger(__name__)

HISTORY = 10_000
"""Delivered outcomes that are kept to be looked at; likewise, outcomes that nobody fetches."""
_ROW_BYTES = 400
"""What a question takes beside its message, roughly [bytes]."""
_SHARE_OF_ONE, _SHARE_OF_KEPT = 1 / 64, 1 / 4
"""Of what may wait: the most that one outcome takes, and all that are kept to be looked at or fetched."""
_DROPS = frozenset(("expired", "evicted"))
_READY = (
    "source = :source AND state = 'ended' AND number < coalesce("
    "(SELECT min(number) FROM question WHERE source = :source AND state = 'waiting'), 1 << 62)"
)


class Spool:
    """The questions and answers of one device.

    Args:
        path: of the file; made if need be, its folder too.
        bounds: how much may wait, for how long.
        clock: tells how long something has waited; None: the system's.

    Attributes:
        file: where they are kept, beside small notes.
        revision: grows with every question that comes or ends through this object.

    Raises:
        OutboxError: it cannot be opened, or was written by another version.
    """

    def __init__(
        self, path: Path, bounds: Bounds | None = None, *, clock: LastingClock | None = None
    ) -> None:
        self.bounds = bounds or Bounds()
        self._clock = clock or LastingClock()
        # Behind the bound on questions, so that a mistake in its bookkeeping cannot fill a disk.
        self.file = SpoolFile(path, max_bytes=2 * self.bounds.max_bytes, clock=self._clock)
        self._db = self.file.db
        self.revision = 0

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def put(self, question: NewQuestion) -> bool:
        """Keep a question until its answer has come; it may be sent once this returns.

        Returns:
            False: there was no room, and of the two choices of ``bounds.evict`` the newest goes. It is
            reported like every other outcome.

        Raises:
            OutboxFullError: the disk is full; nothing has changed.
            ConfigurationError: its request_id is that of a question with other content.
        """
        return self.put_all([question])[0]

    def put_all(self, questions: Sequence[NewQuestion]) -> list[bool]:
        """Keep several, or none of them; returns and raises as :meth:`put`."""
        with self.file.transaction():
            kept = [self._put(question) for question in questions]
            self.file.keep_time()
        return kept

    def put_ended(
        self, request_id: str, source: str, label: str, stamp: Stamp | None, outcome: OutboxEnd, reason: str
    ) -> None:
        """Take something in that could not even be asked, for its turn to be reported; raises as
        :meth:`put`."""
        with self.file.transaction():
            self._db.execute(
                "INSERT INTO question (request_id, digest, source, label, created_at_s, bundle_hash, "
                "message, bytes, facts, state) VALUES (?, x'', ?, ?, ?, '', NULL, ?, '{}', 'waiting')",
                (request_id, _kept(source), _kept(label), self._clock(), _ROW_BYTES),
            )
            self._end([request_id], outcome, reason)
            self._see(source, label, stamp)

    def expire(self) -> int:
        """End the questions whose time to live is over; how many there were."""
        with self.file.reading():
            overdue = self._db.execute(
                "SELECT 1 FROM question WHERE state = 'waiting' AND created_at_s <= ?", (self._too_old_s(),)
            ).fetchone()
        if overdue is None:
            return 0
        with self.file.transaction():
            return self._expire()

    def still_waiting(self, request_ids: Sequence[str]) -> set[str]:
        """Those of these that no outcome has ended meanwhile."""
        marks = ", ".join("?" * len(request_ids))
        with self.file.reading():
            rows = self._db.execute(
                f"SELECT request_id FROM question WHERE state = 'waiting' AND request_id IN ({marks})",  # noqa: S608 (marks)
                list(request_ids),
            ).fetchall()
        return {request_id for (request_id,) in rows}

    def waiting(self, most: int, without: Sequence[str] = ()) -> list[Waiting]:
        """The next questions to send, in the order of asking.

        Args:
            most: how many.
            without: request_ids to leave out.
        """
        with self.file.reading():
            rows = self._db.execute(
                "SELECT request_id, digest, source, label, created_at_s, bundle_hash, message, facts "
                "FROM question WHERE state = 'waiting' ORDER BY number LIMIT ?",
                (most + len(without),),
            ).fetchall()
        left_out, unreadable, found = set(without), [], []
        for request_id, digest, source, label, created_at_s, bundle_hash, message, facts in rows:
            try:
                if hashlib.sha256(message).digest() != digest:
                    raise ValueError("its bytes are not what they were")
                item = Waiting(
                    question=pb.Question.FromString(message),
                    source=_text(source),
                    label=_text(label),
                    created_at_s=self._clock.wall_s(created_at_s),
                    bundle_hash=bundle_hash,
                    facts=json.loads(facts),
                )
            except (DecodeError, ValueError, TypeError):
                unreadable.append(request_id)
                continue
            if request_id not in left_out:
                found.append(item)
        if unreadable:
            # One damaged row must not stand in the way of the others.
            with self.file.transaction():
                self._end(unreadable, "failed", "it is damaged in the outbox and cannot be read any more")
        return found[:most]

    def answered(self, request_id: str, record: Mapping[str, Any]) -> bool:
        """Keep an answer. Only after this may it be shown, and may the server be told.

        Returns:
            False: the question does not wait any more: it was dropped meanwhile, or answered already.

        Raises:
            OutboxFullError: the disk is full; the question still waits.
        """
        with self.file.transaction():
            return self._finish(request_id, "answered", record, acknowledge=True)

    def end(self, request_id: str, outcome: OutboxEnd, reason: str) -> bool:
        """End a question without an answer; False if it does not wait any more."""
        with self.file.transaction():
            return bool(self._end([request_id], outcome, reason))

    def deliver(self, source: str) -> list[Delivery]:
        """Outcomes whose turn has come, in the order of asking; each is returned once, ever.

        Args:
            source: whose; an outcome waits until those before it, of the same source, are there.
        """
        with self.file.reading():
            found = self._db.execute(f"SELECT 1 FROM question WHERE {_READY}", {"source": _kept(source)})  # noqa: S608
            if found.fetchone() is None:
                return []
        with self.file.transaction():
            rows = self._db.execute(
                f"UPDATE question SET state = 'delivered' WHERE {_READY} "  # noqa: S608 (a constant)
                "RETURNING number, request_id, label, outcome, record, created_at_s, ended_at_s",
                {"source": _kept(source)},
            ).fetchall()
            self._db.execute(
                "DELETE FROM question WHERE state = 'delivered' AND NOT unacknowledged AND number <= (SELECT "
                "number FROM question WHERE state = 'delivered' ORDER BY number DESC LIMIT 1 OFFSET ?)",
                (HISTORY,),
            )
        # RETURNING promises no order.
        return [
            Delivery(
                *(number, request_id, source, _text(label), outcome, _record(record)),
                *(self._clock.wall_s(created_at_s), self._clock.wall_s(ended_at_s)),
            )
            for number, request_id, label, outcome, record, created_at_s, ended_at_s in sorted(
                rows, key=lambda row: row[0]
            )
        ]

    def unacknowledged(self, most: int) -> list[str]:
        """Answers that are safe here, of which the server has not been told."""
        with self.file.reading():
            rows = self._db.execute(
                "SELECT request_id FROM question WHERE unacknowledged ORDER BY number LIMIT ?", (most,)
            ).fetchall()
        return [request_id for (request_id,) in rows]

    def acknowledged(self, request_ids: Sequence[str]) -> None:
        """The server has been told of these."""
        with self.file.transaction():
            self._db.executemany(
                "UPDATE question SET unacknowledged = 0 WHERE request_id = ?",
                [(request_id,) for request_id in request_ids],
            )

    def seen(self, source: str) -> dict[str, Stamp]:
        """Files of a source that were dealt with, by name."""
        with self.file.reading():
            rows = self._db.execute(
                "SELECT name, size, changed_ns FROM seen WHERE source = ?", (_kept(source),)
            ).fetchall()
        return {_text(name): (size, changed_ns) for name, size, changed_ns in rows}

    def see(self, source: str, files: Mapping[str, Stamp]) -> None:
        """Files that were dealt with in another way; those that are known keep what is known of them."""
        with self.file.transaction():
            self._db.executemany(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?, ?)",
                [(_kept(source), _kept(name), *stamp) for name, stamp in files.items()],
            )

    def drop(self, request_ids: Sequence[str] | None) -> int:
        """End questions that wait, at a user's word.

        Args:
            request_ids: which; None: all.

        Returns:
            How many there were.
        """
        with self.file.transaction():
            if request_ids is None:
                rows = self._db.execute("SELECT request_id FROM question WHERE state = 'waiting'").fetchall()
                request_ids = [request_id for (request_id,) in rows]
            return self._end(request_ids, "removed", "removed with `device-agent outbox drop`")

    def entries(self, *, delivered: bool = False) -> list[Entry]:
        """What is in the outbox, oldest first.

        Args:
            delivered: also what was delivered, as far as it is kept.
        """
        with self.file.reading():
            rows = self._db.execute(
                "SELECT number, request_id, source, label, state, outcome, created_at_s, ended_at_s, bytes, "
                "record, facts FROM question WHERE state != 'delivered' OR ? ORDER BY number",
                (delivered,),
            ).fetchall()
        wall_s = self._clock.wall_s
        return [
            Entry(
                *(number, request_id, _text(source), _text(label), state, outcome, wall_s(asked_s)),
                *(None if ended_s is None else wall_s(ended_s), size, _record(record), _record(facts)),
            )
            for number, request_id, source, label, state, outcome, asked_s, ended_s, size, record, facts in (
                rows
            )
        ]

    def sources(self) -> list[str]:
        """Those with outcomes or questions that were not delivered."""
        with self.file.reading():
            rows = self._db.execute(
                "SELECT source FROM question WHERE state != 'delivered' GROUP BY source ORDER BY min(number)"
            ).fetchall()
        return [_text(source) for (source,) in rows]

    def counts(self) -> dict[str, int]:
        """Questions by outcome since the file was made, and how many wait."""
        with self.file.reading():
            counted = dict(self._db.execute("SELECT outcome, count FROM counter").fetchall())
            (waiting,) = self._db.execute("SELECT count(*) FROM question WHERE state = 'waiting'").fetchone()
        return {"waiting": waiting, **counted}

    def _put(self, question: NewQuestion) -> bool:
        message = question.question.SerializeToString(deterministic=True)
        digest = hashlib.sha256(message).digest()
        size = len(message) + _ROW_BYTES
        request_id = question.question.request_id
        known = self._db.execute("SELECT digest FROM question WHERE request_id = ?", (request_id,)).fetchone()
        if known is not None:
            if known[0] != digest:
                raise ConfigurationError(f"request_id: {request_id!r} was used for another question")
            return True
        self._expire()
        room = self._make_room(size)
        self.revision += 1
        self._db.execute(
            "INSERT INTO question (request_id, digest, source, label, created_at_s, bundle_hash, "
            "message, bytes, facts, state) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'waiting')",
            (
                *(request_id, digest, _kept(question.source), _kept(question.label), self._clock()),
                *(question.bundle_hash, message, size, json.dumps(dict(question.facts))),
            ),
        )
        if not room:
            self._end([request_id], "evicted", f"the outbox holds all that it may ({self.bounds.text()})")
        self._see(question.source, question.label, question.stamp)
        return room

    def _too_old_s(self) -> float:
        return self._clock() - self.bounds.ttl_s

    def _expire(self) -> int:
        rows = self._db.execute(
            "SELECT request_id FROM question WHERE state = 'waiting' AND created_at_s <= ?",
            (self._too_old_s(),),
        ).fetchall()
        reason = f"no answer within its time to live of {self.bounds.ttl_s:g} s"
        return self._end([request_id for (request_id,) in rows], "expired", reason)

    def _make_room(self, size: int) -> bool:
        bounds = self.bounds
        reason = f"a newer question needed its room ({bounds.text()})"
        (waiting, used) = self._db.execute(
            "SELECT count(*), coalesce(sum(bytes), 0) FROM question WHERE state = 'waiting'"
        ).fetchone()
        while waiting >= bounds.max_questions or used + size > bounds.max_bytes:
            if bounds.evict == "newest" or not waiting:
                return False
            (victim, freed) = self._db.execute(
                "SELECT request_id, bytes FROM question WHERE state = 'waiting' ORDER BY number LIMIT 1"
            ).fetchone()
            self._end([victim], "evicted", reason)
            waiting, used = waiting - 1, used - freed
        self._forget_unfetched()
        return True

    def _forget_unfetched(self) -> None:
        # Outcomes of processes that never came back to fetch them.
        gone = self._db.execute(
            "DELETE FROM question WHERE state = 'ended' AND number <= ("
            "SELECT number FROM question WHERE state = 'ended' ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (HISTORY,),
        ).rowcount
        if gone > 0:
            self._count("unfetched", gone)
            logger.warning("outbox: %d outcomes that nobody fetched are forgotten", gone)

    def _end(self, request_ids: Sequence[str], outcome: OutboxEnd, reason: str) -> int:
        ended = 0
        for request_id in request_ids:
            if self._finish(request_id, outcome, {"error": reason}, acknowledge=False):
                ended += 1
                level = logging.WARNING if outcome in _DROPS else logging.INFO
                logger.log(level, "outbox: question %s is %s: %s", request_id, outcome, reason)
        return ended

    def _forget_oldest(self) -> None:
        """Make room among what is kept: what was shown goes first, then what nobody fetched."""
        most = self.bounds.max_bytes * _SHARE_OF_KEPT
        for state in ("delivered", "ended"):
            (kept,) = self._db.execute(
                "SELECT coalesce(sum(bytes - ?), 0) FROM question WHERE state IN ('delivered', 'ended')",
                (_ROW_BYTES,),
            ).fetchone()
            if kept <= most:
                return
            gone = self._db.execute(
                "DELETE FROM question WHERE number IN (SELECT number FROM (SELECT number, "
                "sum(bytes - ?) OVER (ORDER BY number ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) "
                "AS before "
                "FROM question WHERE state = ?) WHERE coalesce(before, 0) < ?)",
                (_ROW_BYTES, state, kept - most),
            ).rowcount
            if state == "ended" and gone > 0:
                self._count("unfetched", gone)
                logger.warning("outbox: %d outcomes that nobody fetched are forgotten", gone)

    def _bounded(self, record: Mapping[str, Any]) -> str:
        """An outcome as it is kept: no text of it, however long a server's answer, fills the outbox."""
        most = int(self.bounds.max_bytes * _SHARE_OF_ONE)
        kept = {
            name: f"{value[:most]} [cut: {len(value)} characters]"
            if isinstance(value, str) and len(value) > most
            else value
            for name, value in record.items()
        }
        return json.dumps(kept)

    def _finish(
        self, request_id: str, outcome: OutboxEnd, record: Mapping[str, Any], *, acknowledge: bool
    ) -> bool:
        text = self._bounded(record)
        size = _ROW_BYTES + len(text)
        changed = self._db.execute(
            "UPDATE question SET state = 'ended', outcome = ?, record = ?, ended_at_s = ?, message = NULL, "
            "bytes = ?, unacknowledged = ? WHERE request_id = ? AND state = 'waiting'",
            (
                *(outcome, text, self._clock(), size),
                *(acknowledge, request_id),
            ),
        ).rowcount
        if changed:
            self.revision += 1
            self._count(outcome, 1)
            self._forget_oldest()
        return bool(changed)

    def _count(self, outcome: str, count: int) -> None:
        self._db.execute(
            "INSERT INTO counter VALUES (?, ?) "
            "ON CONFLICT (outcome) DO UPDATE SET count = count + excluded.count",
            (outcome, count),
        )

    def _see(self, source: str, name: str, stamp: Stamp | None) -> None:
        if stamp is not None:
            self._db.execute(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", (_kept(source), _kept(name), *stamp)
            )


def _kept(name: str) -> str | bytes:
    """A name as the file keeps it: one that is no Unicode, as file names may be, as bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")
    return name


def _text(kept: str | bytes) -> str:
    """The inverse of :func:`_kept`."""
    return kept if isinstance(kept, str) else kept.decode("utf-8", "surrogatepass")


def _record(kept: str) -> dict[str, Any]:
    try:
        record = json.loads(kept)
    except (ValueError, TypeError):
        record = None
    if isinstance(record, dict):
        return record
    return {"error": "it is damaged in the outbox and cannot be read any more"}
