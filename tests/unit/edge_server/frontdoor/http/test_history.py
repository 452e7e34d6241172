"""Of a conversation that does not fit, as few of the oldest turns are left out as it takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.engine import Prompt
from edge_server.engine.ports import PromptTooLongError
from edge_server.errors import TextTooLongError
from edge_server.frontdoor.http.history import History, fitted
from edge_server.frontdoor.ports import Ingested, LinkShape
from tests.weightless import WeightlessModel

SHAPE = LinkShape(channel_dim=8, max_text_token_length=0)
MOST_BYTES = 16 * 1024


class Short(WeightlessModel):
    """Has room for so many language tokens of a context."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def check(self, prompt: Prompt) -> int:
        if len(prompt.context_ids) > self.room:
            raise PromptTooLongError("context_ids", len(prompt.context_ids), self.room)
        return super().check(prompt)


async def ids_of(text: str) -> tuple[int, ...]:
    return tuple(text.encode())


def ready(context: str) -> Ingested:
    return Ingested((), (1,), tuple(context.encode()), (), (), ())


@given(st.lists(st.text("ab", max_size=6), max_size=8), st.integers(0, 40), st.data())
async def test_as_few_as_it_takes(turns: list[str], room: int, data: st.DataObject) -> None:
    kept = data.draw(st.sets(st.sampled_from(range(len(turns))))) if turns else set()
    spare = tuple(number for number in range(len(turns)) if number not in kept)
    history = History(tuple(turns), spare)
    found, left_out = await fitted(history, 0, ready(history.without(0)), Short(room), ids_of)
    fit = [count for count in range(len(spare) + 1) if len(history.without(count)) <= room]
    expected = fit[0] if fit else 0
    assert left_out == expected
    assert bytes(found.context_ids).decode() == history.without(expected)


def test_turns_that_stay_keep_their_order() -> None:
    history = History(("be brief", "one", "", "two", "three"), (1, 2, 3, 4))
    assert [history.without(count) for count in (0, 1, 3)] == [
        "be brief\none\ntwo\nthree",
        "be brief\ntwo\nthree",
        "be brief\nthree",
    ]


def test_no_language_tokens_are_made_of_what_is_far_too_long() -> None:
    turns = ("a" * 10_000,) * 1000
    history = History(turns, tuple(range(1000)))
    assert history.within_bytes(SHAPE) == 999
    assert len(history.without(999)) <= MOST_BYTES < len(history.without(998))
    with pytest.raises(TextTooLongError):
        History(turns).within_bytes(SHAPE)
    assert History(("short",)).within_bytes(SHAPE) == 0
