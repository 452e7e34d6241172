"""A prompt of a foundation that was tuned to a chat template is laid out as that template says."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

from edge_server.model.prompt import prompt_pieces
from edge_server.model.tokenizer import OWN_IDS

_CHAT = replace(OWN_IDS, begins=(20, 21, 22), asks=(), answers=(30, 31))


def _ids(**told: object) -> list[int]:
    return list(chain.from_iterable(prompt_pieces(**told)))  # type: ignore[arg-type]


def test_a_plain_question_is_the_template_and_nothing_else() -> None:
    assert _ids(slots={}, question=[7, 8], ids=_CHAT) == [20, 21, 22, 7, 8, 30, 31]


def test_slots_stand_in_the_users_turn() -> None:
    found = _ids(slots={"visual": [9]}, question=[7], ids=_CHAT)
    assert found == [20, 21, 22, _CHAT.visual, 9, _CHAT.visual_end, 7, 30, 31]


def test_without_a_template_the_marks_stand_alone() -> None:
    assert _ids(slots={}, question=[40]) == [OWN_IDS.bos, OWN_IDS.question, 40, OWN_IDS.answer]
