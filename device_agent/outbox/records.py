"""What goes into the outbox and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from protos.tokenlink.v1 import tokenlink_pb2 as pb

Stamp: TypeAlias = tuple[int, int]
"""Of a file: size [bytes] and time of last change [ns]."""
OutboxEnd: TypeAlias = Literal["answered", "refused", "failed", "expired", "evicted", "removed"]
"""How a question ended: with its answer; refused by the server, or no question at all; given up by the
server's model again and again; by its time to live; for want of room; by its user."""
Evict: TypeAlias = Literal["oldest", "newest"]


@dataclass(frozen=True)
class Bounds:
    """How much may wait, and for how long.

    Attributes:
        max_questions: that wait.
        max_bytes: of all that wait [bytes]. The file itself stays below twice this.
        ttl_s: after so long without an answer a question ends [s].
        evict: what goes when there is no room: the oldest question that waits, or the one that comes.
    """

    max_questions: int = 10_000
    max_bytes: int = 256 * 2**20
    ttl_s: float = 86_400.0
    evict: Evict = "oldest"

    def text(self) -> str:
        """In words, for reports."""
        return f"at most {self.max_questions} questions and {self.max_bytes} bytes wait"


@dataclass(frozen=True)
class NewQuestion:
    """A question to be kept.

    Attributes:
        question: with its request_id; sent unchanged, however often.
        source: with whose outcomes its own is put in order.
        label: what to call it in reports; of a watched folder, the file's name.
        bundle_hash: of the bundle that made its tokens.
        facts: what its report needs beside the answer; JSON values.
        stamp: of the file it is about; it then counts as dealt with.
    """

    question: pb.Question
    source: str
    label: str
    bundle_hash: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    stamp: Stamp | None = None


@dataclass(frozen=True)
class Waiting:
    """A question that has no answer yet; fields as in :class:`NewQuestion`, times since the Unix epoch
    [s]."""

    question: pb.Question
    source: str
    label: str
    created_at_s: float
    bundle_hash: str
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Delivery:
    """A question's outcome whose turn has come.

    Attributes:
        number: of the question in this outbox; grows in the order of asking.
        request_id: its key.
        source: as it was put in.
        label: as it was put in.
        outcome: how it ended.
        record: the answer and what it cost, or ``{"error": why}``.
        asked_at_s: when it was put in, since the Unix epoch [s].
        ended_at_s: when its outcome was kept, likewise [s].
    """

    number: int
    request_id: str
    source: str
    label: str
    outcome: OutboxEnd
    record: Mapping[str, Any]
    asked_at_s: float
    ended_at_s: float

    def to_json(self) -> dict[str, Any]:
        """What a report adds to the record."""
        return {
            **self.record,
            "request_id": self.request_id,
            "outcome": self.outcome,
            "asked_at_s": self.asked_at_s,
            "ended_at_s": self.ended_at_s,
        }


@dataclass(frozen=True)
class Entry:
    """A line of the outbox, to be looked at; times since the Unix epoch [s]."""

    number: int
    request_id: str
    source: str
    label: str
    state: Literal["waiting", "ended", "delivered"]
    outcome: OutboxEnd | Literal[""]
    created_at_s: float
    ended_at_s: float | None
    bytes: int
    record: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
