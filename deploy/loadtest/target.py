"""What a load test needs of whoever is asked: a connection per user, an answer or a reason per question."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from protos.tokenlink.v1 import tokenlink_pb2 as pb

REQUEST_ID_CHARS = 32
_REQUEST_ID_FIELD = bytes([pb.Question.REQUEST_ID_FIELD_NUMBER << 3 | 2, REQUEST_ID_CHARS])
"""How the field begins on the wire: key with wire type 2, then the length in one byte."""


@dataclass(frozen=True)
class Template:
    """A question that can be asked again and again, each time under a new request_id.

    Attributes:
        message: without request_id.
        data: the same, serialized once: asking costs the generator a concatenation.
        text: the question in words, for doors and agents that take words.
        clip: name of the clip that it is about; empty for none.
    """

    message: pb.Question
    data: bytes
    text: str
    clip: str = ""

    @classmethod
    def of(cls, message: pb.Question, text: str, clip: str = "") -> Template:
        """From a message, whose request_id is left out."""
        copy = pb.Question()
        copy.CopyFrom(message)
        copy.ClearField("request_id")
        return cls(copy, copy.SerializeToString(), text, clip)

    def ask(self) -> Question:
        """A question of its own."""
        return Question(secrets.token_hex(REQUEST_ID_CHARS // 2), self)


@dataclass(frozen=True)
class Question:
    """One question on its way.

    Attributes:
        request_id: 32 characters, unique.
        template: everything else.
    """

    request_id: str
    template: Template

    @property
    def data(self) -> bytes:
        """A serialized ``pb.Question``."""
        return _REQUEST_ID_FIELD + self.request_id.encode() + self.template.data

    @property
    def deadline_s(self) -> float:
        """Within which an answer is of use; 0: the server's default [s]."""
        return self.template.message.deadline_ms / 1000.0


Draw: TypeAlias = Callable[[int], Question]
"""The next question of a user, by the user's number."""


class Refused(Exception):  # noqa: N818 - what the server did, not a fault
    """Too much at once: RESOURCE_EXHAUSTED, 429, or 503.

    Args:
        retry_delay_s: after which the server asks to try again; 0: it did not say [s].
        reason: the server's words.
    """

    def __init__(self, retry_delay_s: float, reason: str) -> None:
        super().__init__(reason)
        self.retry_delay_s = retry_delay_s
        self.reason = reason


class Failed(Exception):  # noqa: N818
    """No answer, and no retry delay either.

    Args:
        code: gRPC status name in lower case, or ``"http_500"`` and the like.
        reason: the server's words.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


EXPIRED = "deadline_exceeded"
"""The :class:`Failed` code of a question whose deadline passed."""


class Connection(Protocol):
    """One user's way to the server; takes any number of questions at once."""

    async def ask(self, question: Question) -> str:
        """The answer's text. Cancelling this takes the question back at the server.

        Raises:
            Refused: too much at once.
            Failed: anything else.
        """

    async def close(self) -> None:
        """Give it back; closing twice is harmless."""


class Target(Protocol):
    """A server that can be asked."""

    async def connect(self, user: int) -> Connection:
        """A connection for the user of this number.

        Raises:
            Refused: too many are open.
            Failed: it cannot be had.
        """
