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
        delta = stable_delta(text, ids[:count], emitted, last=False)[0]
        emitted += delta
        assert spoken.startswith(emitted)
    emitted += stable_delta(text, ids, emitted, last=True)[0]
    assert emitted == spoken


def test_half_a_character_is_held_back() -> None:
    ids = list("é".encode())
    assert stable_delta(WeightlessModel().text, ids[:1], "", last=False)[0] == ""
    assert stable_delta(WeightlessModel().text, ids, "", last=False)[0] == "é"


def test_half_a_character_at_the_end_of_an_answer_that_was_cut_is_none() -> None:
    ids = list("né".encode())
    assert stable_delta(WeightlessModel().text, ids[:2], "", last=True, cut=True)[0] == "n"
    assert stable_delta(WeightlessModel().text, ids, "n", last=True, cut=True)[0] == "é"


def test_what_was_said_stays_said() -> None:
    assert stable_delta(lambda ids: "violin", [1, 2], "viola", last=True)[0] == ""


@given(st.text("abc ", max_size=30), st.lists(st.text("abc ", min_size=1, max_size=4), max_size=4), st.data())
def test_an_answer_is_told_up_to_the_first_text_that_ends_it(
    spoken: str, stop: list[str], data: st.DataObject
) -> None:
    text = WeightlessModel().text
    ids = list(spoken.encode())
    emitted, stopped = "", False
    at = 0
    while not stopped and at < len(ids):
        # Several letters at once, as language tokens have them.
        at = min(at + data.draw(st.integers(1, 5)), len(ids))
        delta, stopped = stable_delta(text, ids[:at], emitted, last=False, stop=stop)
        emitted += delta
        assert not any(each in emitted for each in stop)
    if not stopped:
        delta, stopped = stable_delta(text, ids, emitted, last=True, stop=stop)
        emitted += delta
    ends = [spoken.find(each) for each in stop if each in spoken]
    assert stopped == bool(ends)
    if not ends:
        assert emitted == spoken
    else:
        # As far as it is known when the token that brings the first of them is looked at.
        assert spoken.startswith(emitted)
        assert emitted in [spoken[:end] for end in ends]
