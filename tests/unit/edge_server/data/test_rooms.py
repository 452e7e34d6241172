"""Rooms: what is asked of two devices has one answer, which neither of them tells alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from edge_server.data.soundstage.dataset import generate
from edge_server.data.soundstage.room import (
    HELD_OUT_WORDS,
    OTHER_WORDS,
    PICTURES,
    SOUNDS,
    VIEWS,
    Room,
    label_of,
    other_names,
    renamed,
    sample_room,
)
from edge_server.data.soundstage.room_dataset import generate_rooms, load_rooms, sample_rooms
from edge_server.data.soundstage.room_questions import (
    OF_ONE_VIEW,
    TEMPLATES,
    RoomBalancer,
    RoomQuestion,
    draw_room_questions,
)
from edge_server.data.soundstage.scene import Performer, Scene, Sound
from edge_server.errors import DatasetError


def picture(**places: str) -> Scene:
    return Scene(
        tuple(Performer(kind, place, "playing") for kind, place in places.items()),  # type: ignore[arg-type]
        (),
        False,
        1,
    )


def heard(**levels_db: float) -> Scene:
    return Scene((), tuple(Sound(kind, None, 0.5, level) for kind, level in levels_db.items()), False, 1)


#: The violin stands on the left, at the back; a flute is heard and not seen; the banjo was there before.
ROOM = Room(
    {
        "front": picture(violin="left", drum="right"),
        "side": picture(violin="right", drum="middle"),
        "earlier": picture(violin="middle", drum="right", banjo="left"),
        "left_mic": heard(violin=-5.0, drum=-10.0, flute=0.0),
        "right_mic": heard(violin=-10.0, drum=0.0, flute=-5.0),
    }
)
AGO = "an hour ago"


def truth(text: str, *values: str) -> set[str]:
    template = next(t for t in (*TEMPLATES, *OF_ONE_VIEW) if t.text == text)
    return {asked.answer for asked in template.find(ROOM, AGO) if asked.values == values}


@pytest.mark.parametrize(
    ("text", "values", "answer"),
    [
        (TEMPLATES[0].text, ("left camera", "left", "front camera"), "right"),
        (TEMPLATES[0].text, ("front camera", "middle", "left camera"), "right"),
        (TEMPLATES[1].text, ("left camera", "left microphone"), "violin"),
        (TEMPLATES[1].text, ("front camera", "right microphone"), "drum"),
        (TEMPLATES[2].text, ("left camera", "right microphone"), "middle"),
        (TEMPLATES[2].text, ("front camera", "left microphone"), "off stage"),
        (TEMPLATES[3].text, ("left", "front camera", "left microphone", "right"), "yes"),
        (TEMPLATES[3].text, ("right", "left camera", "right microphone", "middle"), "no"),
        (TEMPLATES[4].text, (), "no"),
        (TEMPLATES[5].text, (AGO,), "banjo"),
        (TEMPLATES[7].text, ("violin", AGO), "no"),
        (TEMPLATES[7].text, ("drum", AGO), "yes"),
        (OF_ONE_VIEW[0].text, ("middle", "left camera"), "drum"),
        (OF_ONE_VIEW[1].text, ("left", AGO), "banjo"),
        (OF_ONE_VIEW[2].text, ("left camera", "violin"), "right"),
        (OF_ONE_VIEW[3].text, ("banjo", AGO), "left"),
        (OF_ONE_VIEW[4].text, ("left microphone",), "flute"),
    ],
)
def test_the_truth_of_a_known_room(text: str, values: tuple[str, ...], answer: str) -> None:
    assert truth(text, *values) == {answer}


def test_what_makes_no_sense_is_not_asked() -> None:
    # Nobody has come; the flute is nowhere to be seen.
    assert truth(TEMPLATES[6].text, AGO) == set()
    assert truth(TEMPLATES[7].text, "flute", AGO) == set()


def test_views_of_a_room_agree_on_who_is_there_and_on_nothing_else() -> None:
    rng = np.random.default_rng(1)
    rooms = [sample_room(rng) for _ in range(400)]
    same = Counter[str]()
    for room in rooms:
        front, side = room["front"], room["side"]
        assert {p.kind for p in front.performers} == {p.kind for p in side.performers}
        playing = {p.kind for p in front.performers if p.action == "playing"}
        left, right = room["left_mic"], room["right_mic"]
        assert playing <= {s.kind for s in left.sounds} == {s.kind for s in right.sounds}
        assert [(s.kind, s.onset_s) for s in left.sounds] == [(s.kind, s.onset_s) for s in right.sounds]
        for performer in front.performers:
            place = next(p.place for p in side.performers if p.kind == performer.kind)
            same["place"] += place == performer.place
            same["asked"] += 1
        if len(left.sounds) > 1:
            same["loudest"] += left.by_loudness[0].kind == right.by_loudness[0].kind
            same["heard"] += 1
    assert same["place"] / same["asked"] == pytest.approx(1 / 3, abs=0.06)
    assert same["loudest"] / same["heard"] == pytest.approx(0.42, abs=0.08)


def test_what_one_device_could_guess_by_is_used_evenly() -> None:
    balancer, rng = RoomBalancer(), np.random.default_rng(2)
    alike: dict[str, Counter[str]] = defaultdict(Counter)
    for _ in range(600):
        for question in balancer.choose(sample_room(rng), rng):
            alike[question.template.text][question.alike] += 1
    assert set(alike) == {template.text for template in TEMPLATES}
    for template in TEMPLATES:
        counts = alike[template.text]
        assert max(counts.values()) <= RoomBalancer.TOLERANCE * min(counts.values()) + 4, template.text


def test_questions_to_learn_from_are_about_what_is_shown() -> None:
    rng = np.random.default_rng(3)
    odds = {"both": 0.6, "one": 0.3, "guess": 0.1}

    def drawn(*shown: str) -> list[RoomQuestion]:
        return draw_room_questions(ROOM, AGO, frozenset(shown), odds, 40, rng)  # type: ignore[arg-type]

    for question in drawn("front", "left_mic"):
        assert {"front", "left_mic"} & set(question.asked.needs)
    assert any(set(question.asked.needs) == {"front", "left_mic"} for question in drawn("front", "left_mic"))
    assert all("right_mic" in question.asked.needs for question in drawn("right_mic"))
    assert draw_room_questions(ROOM, AGO, frozenset(), odds, 4, rng) == []  # type: ignore[arg-type]


def test_a_label_says_whose_and_when() -> None:
    labels = {label_of(view, AGO) for view in VIEWS}
    assert labels == {
        "front camera",
        "left camera",
        "front camera an hour ago",
        "left microphone",
        "right microphone",
    }


def test_devices_may_have_other_names() -> None:
    names = other_names(HELD_OUT_WORDS, np.random.default_rng(1))
    assert set(names) == {"front camera", "left camera", "left microphone", "right microphone"}
    assert len(set(names.values())) == 4
    assert names["left camera"].endswith(" camera")
    text = renamed("Where does the left camera see the instrument on the left of the front camera?", names)
    other, front = names["left camera"], names["front camera"]
    assert text == f"Where does the {other} see the instrument on the left of the {front}?"
    assert renamed(label_of("earlier", AGO), names) == f"{front} {AGO}"
    assert not set(HELD_OUT_WORDS) & set(OTHER_WORDS)


def test_a_split_comes_back_as_it_was_made(tmp_path: Path) -> None:
    generate_rooms(tmp_path, "val", 4, seed=1, workers=1)
    split = load_rooms(tmp_path, "val")
    assert split.rooms == sample_rooms("val", 4, 1) == sample_rooms("val", 5, 1)[:4]
    assert split.questions
    assert split.frames.shape[:2] == (4, len(PICTURES))
    assert split.pcm.shape[:2] == (4, len(SOUNDS))
    assert not np.array_equal(split.media("left_mic")[0], split.media("right_mic")[0])
    assert not np.array_equal(split.media("front")[0], split.media("side")[0])


def test_another_kind_of_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no finished split"):
        load_rooms(tmp_path, "val")
    generate(tmp_path, "val", 1, seed=1, workers=1)
    with pytest.raises(DatasetError, match="clips of format 1; rooms"):
        load_rooms(tmp_path, "val")
