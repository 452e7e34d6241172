"""Questions about a room that no single device answers, and what makes them hard for one alone.

Every question names its devices. ``alike`` is what :class:`RoomBalancer` uses evenly for each template: what
one device alone could guess by, which is the answer, or where it stands among what that device hears.
Questions that one view answers are there to learn from: they say which block is whose.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np

from edge_server.data.annotations import fill
from edge_server.data.soundstage.questions import WHERE, YES_NO
from edge_server.data.soundstage.room import DEVICES, SOUNDS, Room, ViewName
from edge_server.data.soundstage.scene import KINDS, PLACES
from edge_server.scenes.words import AGOS

Needs = tuple[ViewName, ...]
_Choice = TypeVar("_Choice")


@dataclass(frozen=True)
class Asked:
    """What a template asks of a room.

    Attributes:
        values: for its placeholders.
        answer: the truth.
        needs: views that it cannot be answered without.
        alike: of one template, used evenly; empty: the answer.
        between: what is found in one of two views, to be looked for in the other or left out for being in
            both, where a word says it.
    """

    values: tuple[str, ...]
    answer: str
    needs: Needs
    alike: str = ""
    between: str = ""


@dataclass(frozen=True)
class RoomTemplate:
    """One form of question.

    Attributes:
        type: which devices it is of, and the task.
        text: the question, with placeholders in angle brackets; ``<Ago>`` says when the earlier picture was.
        answers: every answer it can have.
        find: yields all its questions about a room, given when the earlier picture was taken.
    """

    type: tuple[str, str]
    text: str
    answers: tuple[str, ...]
    find: Callable[[Room, str], Iterator[Asked]]


@dataclass(frozen=True)
class RoomQuestion:
    """A question about a room, with the truth.

    Attributes:
        template: its form.
        asked: what of the room.
        ago: when the earlier picture was taken, in words.
    """

    template: RoomTemplate
    asked: Asked
    ago: str

    @property
    def text(self) -> str:
        """The question with its placeholders filled."""
        return fill(self.template.text, self.asked.values)

    @property
    def alike(self) -> str:
        """What is used evenly."""
        return self.asked.alike or self.asked.answer


_CAMERAS: tuple[tuple[ViewName, ViewName], ...] = (("front", "side"), ("side", "front"))
_RANKS = ("loudest", "second", "third")


def _yes(truth: bool) -> str:
    return YES_NO[0] if truth else YES_NO[1]


def _place_in_other(room: Room, ago: str) -> Iterator[Asked]:
    for seen_by, asked_of in _CAMERAS:
        for performer in room[seen_by].performers:
            place = next(p.place for p in room[asked_of].performers if p.kind == performer.kind)
            values = (DEVICES[asked_of], performer.place, DEVICES[seen_by])
            yield Asked(values, place, (seen_by, asked_of), between=performer.kind)


def _loudest_of_seen(room: Room, ago: str) -> Iterator[Asked]:
    for camera, _ in _CAMERAS:
        seen = {performer.kind for performer in room[camera].performers}
        for microphone in SOUNDS:
            heard = room[microphone].by_loudness
            ranks = [rank for rank, sound in enumerate(heard) if sound.kind in seen]
            if ranks and len(heard) > 1:
                values = (DEVICES[camera], DEVICES[microphone])
                alike = f"{_RANKS[ranks[0]]} of {len(heard)}"
                yield Asked(values, heard[ranks[0]].kind, (camera, microphone), alike)


def _place_of_loudest(room: Room, ago: str) -> Iterator[Asked]:
    for camera, _ in _CAMERAS:
        for microphone in SOUNDS:
            heard = room[microphone].by_loudness
            if heard:
                place = next((p.place for p in room[camera].performers if p.kind == heard[0].kind), None)
                values = (DEVICES[camera], DEVICES[microphone])
                answer = place or WHERE[-1]
                yield Asked(values, answer, (camera, microphone), between=heard[0].kind)


def _louder_of_places(room: Room, ago: str) -> Iterator[Asked]:
    for camera, _ in _CAMERAS:
        for microphone in SOUNDS:
            levels = {sound.kind: sound.level_db for sound in room[microphone].sounds}
            playing = [p for p in room[camera].performers if p.kind in levels]
            for a in playing:
                for b in playing:
                    if a is not b:
                        values = (a.place, DEVICES[camera], DEVICES[microphone], b.place)
                        answer = _yes(levels[a.kind] > levels[b.kind])
                        yield Asked(values, answer, (camera, microphone), between=a.kind)


def _same_loudest(room: Room, ago: str) -> Iterator[Asked]:
    left, right = (room[microphone].by_loudness for microphone in SOUNDS)
    if len(left) > 1:
        yield Asked((), _yes(left[0].kind == right[0].kind), SOUNDS, between=left[0].kind)


def _gone(room: Room, ago: str) -> Iterator[Asked]:
    yield from _only_in(room, "earlier", "front", ago)


def _come(room: Room, ago: str) -> Iterator[Asked]:
    yield from _only_in(room, "front", "earlier", ago)


def _only_in(room: Room, there: ViewName, not_there: ViewName, ago: str) -> Iterator[Asked]:
    elsewhere = {performer.kind for performer in room[not_there].performers}
    only = [performer.kind for performer in room[there].performers if performer.kind not in elsewhere]
    if len(only) == 1:
        stayed = next((p.kind for p in room[there].performers if p.kind in elsewhere), "")
        yield Asked((ago,), only[0], (there, not_there), between=stayed)


def _stayed(room: Room, ago: str) -> Iterator[Asked]:
    before = {performer.kind: performer.place for performer in room["earlier"].performers}
    for performer in room["front"].performers:
        if performer.kind in before:
            same = before[performer.kind] == performer.place
            values = (performer.kind, ago)
            yield Asked(values, _yes(same), ("front", "earlier"), between=before[performer.kind])


def _kind_at(room: Room, ago: str) -> Iterator[Asked]:
    for view, _ in _CAMERAS:
        for performer in room[view].performers:
            yield Asked((performer.place, DEVICES[view]), performer.kind, (view,), performer.place)


def _kind_at_earlier(room: Room, ago: str) -> Iterator[Asked]:
    for performer in room["earlier"].performers:
        yield Asked((performer.place, ago), performer.kind, ("earlier",), performer.place)


def _place_of_kind(room: Room, ago: str) -> Iterator[Asked]:
    for view, _ in _CAMERAS:
        for performer in room[view].performers:
            yield Asked((DEVICES[view], performer.kind), performer.place, (view,))


def _place_of_kind_earlier(room: Room, ago: str) -> Iterator[Asked]:
    for performer in room["earlier"].performers:
        yield Asked((performer.kind, ago), performer.place, ("earlier",))


def _loudest(room: Room, ago: str) -> Iterator[Asked]:
    for microphone in SOUNDS:
        if len(room[microphone].sounds) > 1:
            kind = room[microphone].by_loudness[0].kind
            yield Asked((DEVICES[microphone],), kind, (microphone,), microphone)


_TWO_CAMERAS, _BOTH, _TWO_MICROPHONES, _TWO_TIMES = (
    "Two cameras",
    "Camera and microphone",
    "Two microphones",
    "Two times",
)

TEMPLATES: tuple[RoomTemplate, ...] = (
    RoomTemplate(
        (_TWO_CAMERAS, "Location"),
        "Where does the <Camera1> see the instrument on the <LR> of the <Camera2>?",
        PLACES,
        _place_in_other,
    ),
    RoomTemplate(
        (_BOTH, "Comparative"),
        "Which instrument seen by the <Camera> is the loudest at the <Microphone>?",
        KINDS,
        _loudest_of_seen,
    ),
    RoomTemplate(
        (_BOTH, "Location"),
        "Where does the <Camera> see the instrument that is the loudest at the <Microphone>?",
        WHERE,
        _place_of_loudest,
    ),
    RoomTemplate(
        (_BOTH, "Comparative"),
        "Is the instrument on the <LR> of the <Camera> louder at the <Microphone> than the one on the <RL>?",
        YES_NO,
        _louder_of_places,
    ),
    RoomTemplate(
        (_TWO_MICROPHONES, "Comparative"),
        "Is the loudest instrument at the left microphone also the loudest at the right microphone?",
        YES_NO,
        _same_loudest,
    ),
    RoomTemplate(
        (_TWO_TIMES, "Existential"), "Which instrument was there <Ago> and is not there now?", KINDS, _gone
    ),
    RoomTemplate(
        (_TWO_TIMES, "Existential"), "Which instrument is there now and was not there <Ago>?", KINDS, _come
    ),
    RoomTemplate((_TWO_TIMES, "Location"), "Is the <Object> where it was <Ago>?", YES_NO, _stayed),
)
"""Questions that need two devices, or one at two times."""

OF_ONE_VIEW: tuple[RoomTemplate, ...] = (
    RoomTemplate(
        ("One camera", "Location"),
        "What kind of instrument is on the <LR> of the <Camera>?",
        KINDS,
        _kind_at,
    ),
    RoomTemplate(
        ("One camera", "Location"),
        "What kind of instrument was on the <LR> <Ago>?",
        KINDS,
        _kind_at_earlier,
    ),
    RoomTemplate(
        ("One camera", "Location"), "Where does the <Camera> see the <Object>?", PLACES, _place_of_kind
    ),
    RoomTemplate(("One camera", "Location"), "Where was the <Object> <Ago>?", PLACES, _place_of_kind_earlier),
    RoomTemplate(
        ("One microphone", "Comparative"),
        "Which instrument is the loudest at the <Microphone>?",
        KINDS,
        _loudest,
    ),
)
"""Questions that say which block is whose; learned from, and not what is measured."""


def types() -> tuple[tuple[str, str], ...]:
    """The types of question that need two devices."""
    return tuple(dict.fromkeys(template.type for template in TEMPLATES))


Knowable = Literal["one", "both", "guess"]
"""What is shown of what a question needs: the one view, both, or not all."""


def draw_room_questions(
    room: Room,
    ago: str,
    shown: frozenset[ViewName],
    odds: Mapping[Knowable, float],
    count: int,
    rng: np.random.Generator,
) -> list[RoomQuestion]:
    """Questions about a room, for training.

    Args:
        room: what they are about.
        ago: when the earlier picture was taken.
        shown: views that are there; a question needs at least one of them.
        odds: how often questions of each kind are drawn, where there are some.
        count: at most so many, no two the same.
        rng: source of all randomness.
    """
    found: dict[Knowable, dict[str, dict[str, list[RoomQuestion]]]] = {}
    for template in (*TEMPLATES, *OF_ONE_VIEW):
        for asked in template.find(room, ago):
            if shown.isdisjoint(asked.needs):
                continue
            kind: Knowable = "guess" if not shown.issuperset(asked.needs) else "one"
            if kind == "one" and len(asked.needs) > 1:
                kind = "both"
            question = RoomQuestion(template, asked, ago)
            of_template = found.setdefault(kind, {}).setdefault(template.text, {})
            of_template.setdefault(question.alike, []).append(question)
    if not found:
        return []
    kinds = list(found)
    weights = np.array([odds[kind] for kind in kinds])
    drawn = []
    for kind in rng.choice(len(kinds), count, p=weights / weights.sum()):
        by_alike = _one(list(found[kinds[int(kind)]].values()), rng)
        drawn.append(_one(_one(list(by_alike.values()), rng), rng))
    return list(dict.fromkeys(drawn))


def _one(choices: Sequence[_Choice], rng: np.random.Generator) -> _Choice:
    return choices[int(rng.integers(len(choices)))]


class RoomBalancer:
    """Chooses questions so that what one device alone could guess by is used evenly."""

    #: One may be this much more frequent than the rarest of its template.
    TOLERANCE = 1.15
    _HEAD_START = 3

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._answers: dict[str, Counter[str]] = defaultdict(Counter)

    def choose(self, room: Room, rng: np.random.Generator) -> list[RoomQuestion]:
        """At most one question of each template that needs two devices."""
        chosen = []
        for template in TEMPLATES:
            ago = AGOS[int(rng.integers(len(AGOS)))]
            counts, answers = self._counts[template.text], self._answers[template.text]
            found = [RoomQuestion(template, asked, ago) for asked in template.find(room, ago)]
            for question in found:
                counts.setdefault(question.alike, 0)
            limit = self.TOLERANCE * min(counts.values(), default=0) + self._HEAD_START
            rare = [question for question in found if counts[question.alike] < limit]
            if rare:
                fewest = min((counts[q.alike], answers[q.asked.answer]) for q in rare)
                best = [q for q in rare if (counts[q.alike], answers[q.asked.answer]) == fewest]
                question = _one(best, rng)
                counts[question.alike] += 1
                answers[question.asked.answer] += 1
                chosen.append(question)
        return chosen
