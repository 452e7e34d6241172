"""Questions about a scene in MUSIC-AVQA's nine types, with answers that no blind guess gets right.

Templates carry placeholders in MUSIC-AVQA's style (``<Object>``, ``<LR>`` ...), filled from
``templ_values``. :class:`Balancer` keeps the answers of each template evenly used, so that the *blind
prior*, the most frequent answer of a template, is worth little.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from edge_server.data.annotations import fill
from edge_server.data.soundstage.scene import KINDS, PLACES, Scene, Sound

NUMBERS = ("zero", "one", "two", "three")
YES_NO = ("yes", "no")
WHERE = (*PLACES, "off stage")
#: What no picture is needed for.
_HEARD = ("audio",)

Found = Iterator[tuple[tuple[str, ...], str]]


@dataclass(frozen=True)
class Template:
    """One form of question.

    Attributes:
        type: MUSIC-AVQA's type: modality and task.
        text: the question, with placeholders in angle brackets.
        answers: every answer it can have.
        find: yields (values for the placeholders, answer) for all its questions about a scene.
        by: slots that it cannot be answered without; empty: what its type says.
    """

    type: tuple[str, str]
    text: str
    answers: tuple[str, ...]
    find: Callable[[Scene], Found]
    by: tuple[str, ...] = ()

    @property
    def needed(self) -> frozenset[str]:
        """Slots that it cannot be answered without."""
        return frozenset(self.by or self.type[0].lower().split("-"))


@dataclass(frozen=True)
class Question:
    """A question about a scene, with the truth."""

    template: Template
    values: tuple[str, ...]
    answer: str

    @property
    def text(self) -> str:
        """The question with its placeholders filled."""
        return fill(self.template.text, self.values)

    def to_music_avqa(self, video_id: str, question_id: int) -> dict[str, object]:
        """The question with MUSIC-AVQA's own keys (``anser`` is spelt so there)."""
        return {
            "video_id": video_id,
            "question_id": question_id,
            "type": json.dumps(list(self.template.type)),
            "question_content": self.template.text,
            "templ_values": json.dumps(list(self.values)),
            "question_deleted": 0,
            "anser": self.answer,
        }


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


def _where(sound: Sound) -> str:
    return sound.place if sound.place is not None else "off stage"


def _heard_count(scene: Scene) -> Found:
    yield (), NUMBERS[len(scene.sounds)]


def _heard_kind(scene: Scene) -> Found:
    for kind in KINDS:
        yield (kind,), _yes(scene.sound_of(kind) is not None)


def _louder_kind(scene: Scene) -> Found:
    for a in scene.sounds:
        for b in scene.sounds:
            if a is not b:
                yield (a.kind, b.kind), _yes(a.level_db > b.level_db)


def _earlier_kind(scene: Scene) -> Found:
    for a in scene.sounds:
        for b in scene.sounds:
            if a is not b:
                yield (a.kind, b.kind), _yes(a.onset_s < b.onset_s)


def _seen_count(scene: Scene) -> Found:
    yield (), NUMBERS[len(scene.performers)]


def _seen_kind(scene: Scene) -> Found:
    for kind in KINDS:
        yield (kind,), _yes(any(p.kind == kind for p in scene.performers))


def _kind_at(scene: Scene) -> Found:
    for performer in scene.performers:
        yield (performer.place,), performer.kind


def _place_of(scene: Scene) -> Found:
    for performer in scene.performers:
        yield (performer.kind,), performer.place


def _only_sound_on_stage(scene: Scene) -> Found:
    if len(scene.sounds) == 1:
        yield (), _yes(scene.sounds[0].place is not None)


def _performer_plays(scene: Scene) -> Found:
    for performer in scene.performers:
        yield (performer.kind,), _yes(performer.action == "playing")


def _voice_over(scene: Scene) -> Found:
    yield (), _yes(scene.voice_over)


def _first_place(scene: Scene) -> Found:
    if scene.sounds:
        yield (), _where(scene.sounds[0])


def _loudest_place(scene: Scene) -> Found:
    if scene.sounds:
        yield (), _where(scene.by_loudness[0])


def _first_from(scene: Scene) -> Found:
    for performer in scene.performers:
        if scene.sounds:
            yield (performer.place,), _yes(scene.sounds[0].place == performer.place)


def _sounding_count(scene: Scene) -> Found:
    yield (), NUMBERS[sum(p.action == "playing" for p in scene.performers)]


def _silent_count(scene: Scene) -> Found:
    yield (), NUMBERS[sum(p.action != "playing" for p in scene.performers)]


def _louder_place(scene: Scene) -> Found:
    yield from _place_pairs(scene, lambda a, b: a.level_db > b.level_db)


def _earlier_place(scene: Scene) -> Found:
    yield from _place_pairs(scene, lambda a, b: a.onset_s < b.onset_s)


def _place_pairs(scene: Scene, holds: Callable[[Sound, Sound], bool]) -> Found:
    on_stage = [s for s in scene.sounds if s.place is not None]
    for a in on_stage:
        for b in on_stage:
            if a is not b:
                yield (_where(a), _where(b)), _yes(holds(a, b))


def _first_kind(scene: Scene) -> Found:
    if len(scene.sounds) > 1:
        yield (), scene.sounds[0].kind


def _last_kind(scene: Scene) -> Found:
    if len(scene.sounds) > 1:
        yield (), scene.sounds[-1].kind


def _kind_before(scene: Scene) -> Found:
    for earlier, later in zip(scene.sounds, scene.sounds[1:], strict=False):
        yield (later.kind,), earlier.kind


def _kind_after(scene: Scene) -> Found:
    for earlier, later in zip(scene.sounds, scene.sounds[1:], strict=False):
        yield (earlier.kind,), later.kind


TEMPLATES: list[Template] = [
    Template(
        ("Audio", "Counting"),
        "How many musical instruments were heard throughout the video?",
        NUMBERS,
        _heard_count,
    ),
    Template(("Audio", "Counting"), "Is there a <Object> sound?", YES_NO, _heard_kind),
    Template(("Audio", "Comparative"), "Is the <Object1> louder than the <Object2>?", YES_NO, _louder_kind),
    Template(
        ("Audio", "Comparative"), "Does the <Object1> come in before the <Object2>?", YES_NO, _earlier_kind
    ),
    Template(
        ("Visual", "Counting"),
        "How many types of musical instruments appeared in the entire video?",
        NUMBERS,
        _seen_count,
    ),
    Template(("Visual", "Counting"), "Is there a <Object> in the entire video?", YES_NO, _seen_kind),
    Template(("Visual", "Location"), "What kind of instrument is on the <LR> of the stage?", KINDS, _kind_at),
    Template(("Visual", "Location"), "Where is the <Object>?", PLACES, _place_of),
    Template(
        ("Audio-Visual", "Existential"),
        "Is this sound from the instrument in the video?",
        YES_NO,
        _only_sound_on_stage,
    ),
    Template(
        ("Audio-Visual", "Existential"), "Is the <Object> in the video playing?", YES_NO, _performer_plays
    ),
    Template(("Audio-Visual", "Existential"), "Is there a voiceover?", YES_NO, _voice_over, _HEARD),
    Template(("Audio-Visual", "Location"), "Where is the first sounding instrument?", WHERE, _first_place),
    Template(("Audio-Visual", "Location"), "Where is the loudest instrument?", WHERE, _loudest_place),
    Template(
        ("Audio-Visual", "Location"),
        "Is the first sound coming from the <LR> instrument?",
        YES_NO,
        _first_from,
    ),
    Template(
        ("Audio-Visual", "Counting"),
        "How many instruments are sounding in the video?",
        NUMBERS,
        _sounding_count,
    ),
    Template(
        ("Audio-Visual", "Counting"),
        "How many instruments in the video did not sound from beginning to end?",
        NUMBERS,
        _silent_count,
    ),
    Template(
        ("Audio-Visual", "Comparative"),
        "Is the instrument on the <LR> louder than the instrument on the <RL>?",
        YES_NO,
        _louder_place,
    ),
    Template(
        ("Audio-Visual", "Comparative"),
        "Does the instrument on the <LR> come in before the instrument on the <RL>?",
        YES_NO,
        _earlier_place,
    ),
    Template(
        ("Audio-Visual", "Temporal"),
        "What is the first instrument that comes in?",
        KINDS,
        _first_kind,
        _HEARD,
    ),
    Template(
        ("Audio-Visual", "Temporal"), "What is the last instrument that comes in?", KINDS, _last_kind, _HEARD
    ),
    Template(
        ("Audio-Visual", "Temporal"),
        "Which instrument makes sounds right before the <Object>?",
        KINDS,
        _kind_before,
        _HEARD,
    ),
    Template(
        ("Audio-Visual", "Temporal"),
        "Which instrument makes sounds right after the <Object>?",
        KINDS,
        _kind_after,
        _HEARD,
    ),
]


def register(template: Template) -> None:
    """Have questions of a further form asked; its type may be a new one.

    Raises:
        ValueError: there is one of this text, and its answers could not be told from those of the other.
    """
    if any(known.text == template.text for known in TEMPLATES):
        raise ValueError(f"template {template.text!r} is registered already")
    TEMPLATES.append(template)


def types() -> tuple[tuple[str, str], ...]:
    """The types of question, in the order in which results are shown."""
    return tuple(dict.fromkeys(template.type for template in TEMPLATES))


def draw_questions(scene: Scene, count: int, rng: np.random.Generator) -> list[Question]:
    """Questions about one scene, for training.

    All templates are alike likely, and so are the answers of a template.

    Returns:
        At most ``count``, no two the same.
    """
    by_template = []
    for template in TEMPLATES:
        by_answer: dict[str, list[Question]] = {}
        for values, answer in template.find(scene):
            by_answer.setdefault(answer, []).append(Question(template, values, answer))
        if by_answer:
            by_template.append(by_answer)
    drawn = []
    for _ in range(count):
        by_answer = by_template[int(rng.integers(len(by_template)))]
        answers = sorted(by_answer)
        of_answer = by_answer[answers[int(rng.integers(len(answers)))]]
        drawn.append(of_answer[int(rng.integers(len(of_answer)))])
    return list(dict.fromkeys(drawn))


class Balancer:
    """Chooses questions so that every template's answers are used evenly."""

    #: An answer may be this much more frequent than the rarest answer of its template.
    TOLERANCE = 1.15
    _HEAD_START = 3

    def __init__(self) -> None:
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)

    def choose(self, scene: Scene, rng: np.random.Generator) -> list[Question]:
        """At most one question of each type: of the least used template, with its least used answer."""
        chosen = []
        for kind in types():
            question = self._choose_of_type(kind, scene, rng)
            if question is not None:
                self._counts[question.template.text][question.answer] += 1
                chosen.append(question)
        return chosen

    def _choose_of_type(
        self, kind: tuple[str, str], scene: Scene, rng: np.random.Generator
    ) -> Question | None:
        templates = [t for t in TEMPLATES if t.type == kind]
        templates.sort(key=lambda t: (self._counts[t.text].total(), rng.random()))
        for template in templates:
            counts = self._counts[template.text]
            rarest = min(counts[a] for a in template.answers)
            limit = self.TOLERANCE * rarest + self._HEAD_START
            found = [Question(template, v, a) for v, a in template.find(scene) if counts[a] < limit]
            if found:
                fewest = min(counts[q.answer] for q in found)
                rare = [q for q in found if counts[q.answer] == fewest]
                return rare[int(rng.integers(len(rare)))]
        return None
