from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_server.engine.detokenizer import stable_delta
from tests.weightless import WeightlessModel


@given(st.text(max_size=40))
def test_pieces_of_any_text_join_to_the_text_and_are_never_broken(spoken: str) -> None:
    ids = list(spoken.encode())
    text = WeightlessModel().text
    emitted = ""
    for count in range(1, len(ids) + 1):
        delta = stable_delta(text, ids[:count], emitted, last=False)
        emitted += delta
        assert spoken.startswith(emitted)
    emitted += stable_delta(text, ids, emitted, last=True)
    assert emitted == spoken


def test_half_a_character_is_held_back() -> None:
    ids = list("é".encode())
    assert stable_delta(WeightlessModel().text, ids[:1], "", last=False) == ""
    assert stable_delta(WeightlessModel().text, ids, "", last=False) == "é"


def test_what_was_said_stays_said() -> None:
    assert stable_delta(lambda ids: "violin", [1, 2], "viola", last=True) == ""
