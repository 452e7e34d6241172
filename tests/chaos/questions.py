"""Numbered questions, each with the one answer that is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from device_agent.outbox.records import NewQuestion, Waiting
from device_agent.uplink.session import Reply
from protos.tokenlink.v1 import tokenlink_pb2 as pb
from tests import questions
from tests.weightless import BUNDLE_HASH

SOURCE = "chaos"
_BASE = 1000
"""Ids of the model without weights lie below this."""


def question(agent: int, number: int, token_length: int = 16) -> pb.Question:
    """The number-th question of an agent, with a block of feature tokens."""
    return questions.question(
        f"a{agent}-{number}",
        questions.block(token_length=token_length),
        question_ids=[agent % _BASE, number // _BASE, number % _BASE],
        deadline_ms=20_000,
    )


def answer_to(question_ids: Sequence[int]) -> str:
    """The answer to a question."""
    return "-".join(map(str, question_ids))


def expected(agent: int, number: int) -> str:
    """The answer to the number-th question of an agent."""
    return answer_to(question(agent, number).question_ids)


def spooled(agent: int, number: int, token_length: int = 16) -> NewQuestion:
    """The same for an outbox."""
    return NewQuestion(question(agent, number, token_length), SOURCE, str(number), BUNDLE_HASH)


def record_of(item: Waiting, reply: Reply, model: str) -> Mapping[str, Any]:
    """What an outbox keeps of an answer."""
    return {"answer": reply.answer.text, "tries": reply.tries}
