"""A conversation as the model is asked: turn by turn, what is shown where it is, the oldest left out."""

from __future__ import annotations

import numpy as np
import pytest

from edge_server.engine import FeatureBlock, Prompt
from edge_server.engine.ports import PromptTooLongError, Said
from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.http.turns import MAX_SHOWN, ReadyTurn, check_shown, fitted_prompt, prompt_of
from edge_server.frontdoor.ports import RawMedia
from tests.weightless import WeightlessModel


def block(value: float) -> FeatureBlock:
    return FeatureBlock("image", np.full((2, 8), value, np.float32), 10.0)


FIRST, SECOND = block(1.0), block(2.0)
TURNS = [
    ReadyTurn("system", ((5,),)),
    ReadyTurn("user", ((6,), FIRST, (7,))),
    ReadyTurn("assistant", ()),
    ReadyTurn("user", (SECOND, (8, 9))),
]


def test_turns_point_to_blocks_in_their_order_and_empty_ones_are_left_out() -> None:
    prompt = prompt_of(TURNS, "me")
    assert prompt.turns == (
        Said("system", ((5,),)),
        Said("user", ((6,), 0, (7,))),
        Said("user", (1, (8, 9))),
    )
    assert [each is one for each, one in zip(prompt.blocks, (FIRST, SECOND), strict=True)] == [True, True]
    assert (prompt.question_ids, prompt.conversation) == ((8, 9), "me")


class Short(WeightlessModel):
    """Has room for so many turns."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def check(self, prompt: Prompt) -> int:
        if len(prompt.turns) > self.room:
            raise PromptTooLongError("turns", len(prompt.turns), self.room)
        return 1


@pytest.mark.parametrize(("room", "gone"), [(9, 0), (8, 1), (4, 5), (2, 7), (1, 0)])
def test_as_few_of_the_oldest_are_left_out_as_it_takes(room: int, gone: int) -> None:
    turns = [ReadyTurn("system", ((1,),)), *(ReadyTurn("user", ((n,),)) for n in range(2, 10))]
    prompt, left_out = fitted_prompt(turns, range(1, 8), 0, Short(room), "")
    # Where leaving all out is not enough, nothing is: it is refused as it came.
    assert left_out == gone
    assert len(prompt.turns) == 9 - gone
    assert prompt.turns[0] == Said("system", ((1,),))
    assert prompt.turns[-1] == Said("user", ((9,),))


def test_more_pictures_than_are_looked_at_are_refused_before_any_is_decoded() -> None:
    media = [RawMedia("image", "", f"messages[0].content[{n}]") for n in range(MAX_SHOWN + 1)]
    check_shown(media[:-1])
    with pytest.raises(InvalidQuestionError, match=rf"content\[{MAX_SHOWN}\]") as refused:
        check_shown(media)
    assert refused.value.field == f"messages[0].content[{MAX_SHOWN}]"
