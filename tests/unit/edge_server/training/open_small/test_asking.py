"""What is asked about a picture has the answer that the picture gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_server.data.soundstage.scene import Performer, Scene
from edge_server.errors import DatasetError
from edge_server.training.open_small import asking
from edge_server.weights.names import LEMMAS, SYNSETS, ClassName, read_class_names, with_article

_FOX = ClassName("n1", ("red fox", "Vulpes vulpes"), "animal")
_WOLF = ClassName("n2", ("grey wolf",), "animal")
_OBOE = ClassName("n3", ("oboe",), "instrument")
_SCENE = Scene((Performer("violin", "left", "playing"), Performer("drum", "right", "still")), (), False, 3)


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


def test_a_stage_is_asked_about_as_it_is_seen() -> None:
    answers: dict[str, set[str]] = {}
    for seed in range(150):
        for question, answer in asking.about_stage(_SCENE, 8, np.random.default_rng(seed)):
            answers.setdefault(question, set()).add(answer)
    assert all(len(each) == 1 for each in answers.values())
    assert answers["Where is the drum?"] == {"right"}
    assert answers["Is the violin moving?"] == {"yes"}
    assert answers["Does the drum keep still?"] == {"yes"}
    assert len(answers) > 40, "in many wordings"


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
