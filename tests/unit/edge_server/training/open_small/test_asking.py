"""What is asked about a picture or a sound has the answer that its caption gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_server.errors import DatasetError
from edge_server.training.open_small import asking, listening
from edge_server.weights.names import LEMMAS, SYNSETS, ClassName, read_class_names, with_article
from edge_server.weights.sound_names import OTHERS, SILENCE, SOUNDS, SPEECH, SoundName

_FOX = ClassName("n1", ("red fox", "Vulpes vulpes"), "animal")
_WOLF = ClassName("n2", ("grey wolf",), "animal")
_OBOE = ClassName("n3", ("oboe",), "instrument")


def _all_about(shown: ClassName, *, sure: bool = True) -> dict[str, set[str]]:
    answers: dict[str, set[str]] = {}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        for question, answer in asking.about_class(shown, (_FOX, _WOLF, _OBOE), 9, rng, sure=sure):
            answers.setdefault(question, set()).add(answer)
    return answers


def test_every_question_about_a_class_has_one_answer() -> None:
    answers = _all_about(_OBOE)
    assert all(len(each) == 1 for each in answers.values()), "the same picture, the same answer"
    assert answers["What is this?"] == {"An oboe."}
    assert answers["Is there an oboe in the picture?"] == {"Yes."}
    assert answers["Is there an instrument in the picture?"] == {"Yes."}
    assert answers["Is there a red fox in the picture?"] == {"No."}
    assert answers["Is it an animal?"] == {"No."}
    assert answers["What is the weather like?"] == {asking.NOT_SURE}


def test_a_near_miss_is_no_and_the_common_kind_is_yes() -> None:
    answers = _all_about(_FOX)
    assert answers["Is it a grey wolf?"] == {"No."}
    assert answers["Is it an animal?"] == {"Yes."}


def test_a_guess_is_told_as_one() -> None:
    assert _all_about(_FOX, sure=False)["What is this?"] == {"I am not sure. It might be a red fox."}


def test_colour_and_side_are_what_the_caption_says_or_are_not_told() -> None:
    for told, about in (("red", asking.about_colour), ("on the left", asking.about_side)):
        answers: dict[str, set[str]] = {}
        for seed in range(200):
            for question, answer in about(told, "red fox", np.random.default_rng(seed)):
                answers.setdefault(question, set()).add(answer)
        assert all(len(each) == 1 for each in answers.values())
        assert {f"{told.capitalize()}."} in answers.values()
        for seed in range(20):
            unknown = about("", "red fox", np.random.default_rng(seed))
            assert {answer for _, answer in unknown} == {asking.NOT_SURE}


@pytest.mark.parametrize("heard", [*SOUNDS, *OTHERS], ids=lambda each: each.name)
def test_every_question_about_a_sound_has_one_answer(heard: SoundName) -> None:
    answers: dict[str, set[str]] = {}
    for seed in range(100):
        asked = listening.about_sound(heard, "loud", SOUNDS, 12, np.random.default_rng(seed), sure=True)
        for question, answer in asked:
            answers.setdefault(question, set()).add(answer)
    assert all(len(each) == 1 for each in answers.values())
    assert answers["Is somebody speaking?"] == {"Yes." if heard is SPEECH else "No."}
    assert answers["Is music playing?"] == {"Yes." if heard.is_music else "No."}
    if heard is SILENCE:
        assert answers["What do you hear?"] == {listening.NO_SOUND}
    else:
        assert heard.name in next(iter(answers["What do you hear?"])).lower()
        assert answers["Is it loud or quiet?"] == {"Loud."}


def test_a_sound_that_is_a_guess_is_told_as_one() -> None:
    asked = listening.about_sound(SOUNDS[0], "", SOUNDS, 2, np.random.default_rng(1), sure=False)
    assert "I am not sure. It might be a dog bark." in {answer for _, answer in asked}


def test_articles() -> None:
    assert with_article("oboe") == "an oboe"
    assert with_article("violin") == "a violin"


def test_class_names_come_from_two_lists(tmp_path: Path) -> None:
    (tmp_path / SYNSETS).write_text("n7\nn8\n")
    (tmp_path / LEMMAS).write_text("n8\tgoldfish, Carassius auratus\nn7\ttench\nn9\tother\n")
    names = read_class_names(tmp_path)
    assert [(each.name, each.kind, each.lives) for each in names] == [
        ("tench", "fish", True),
        ("goldfish", "fish", True),
    ]
    (tmp_path / SYNSETS).write_text("n7\nn10\n")
    with pytest.raises(DatasetError, match="n10 is not in it"):
        read_class_names(tmp_path)
