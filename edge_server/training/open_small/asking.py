"""Questions about what a picture shows, in many wordings, with answers in plain English.

What no caption says is answered by "I am not sure.", and so is what there is no picture for.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_server.data.soundstage.phrasings import PHRASINGS, put_into
from edge_server.data.soundstage.questions import draw_questions
from edge_server.data.soundstage.scene import Scene
from edge_server.weights.names import ClassName, with_article

NOT_SURE = "I am not sure."
NO_PICTURE = "I see no picture."

_WHAT = (
    "What is this?",
    "What is in the picture?",
    "What do you see?",
    "What does the photo show?",
    "What is it?",
    "What can you see in this image?",
    "Which thing is shown here?",
    "Name what is in the image.",
    "Tell me what this is.",
    "What am I looking at?",
    "What is the main object?",
    "Can you tell what that is?",
    "Identify the object in the photo.",
    "What's that?",
    "So what do we have here?",
)
_KIND = (
    "What kind of thing is it?",
    "What sort of thing is in the picture?",
    "Which category does it belong to?",
    "Broadly, what is this?",
    "In one general word, what is it?",
)
_THERE = (
    "Is there {} in the picture?",
    "Is this {}?",
    "Do you see {}?",
    "Can you see {} here?",
    "Does the photo show {}?",
    "Is it {}?",
    "Would you say this is {}?",
    "Is {} visible?",
    "Am I looking at {}?",
)
_ALIVE = (
    "Is it an animal?",
    "Is there an animal in the picture?",
    "Does the photo show an animal?",
    "Do you see any animal?",
)
_DESCRIBE = (
    "Describe the picture.",
    "Describe what you see.",
    "What is going on here?",
    "Caption this image.",
)
_MEDIUM = (
    "Is this a photo or a drawing?",
    "Photo or drawing?",
    "Is the picture drawn or photographed?",
)
_UNKNOWN = (
    "What is the weather like?",
    "What is her name?",
    "How old is it?",
    "Who took this picture?",
    "Where was this taken?",
    "What time is it there?",
    "How much does it cost?",
    "What does it smell like?",
    "What is behind the wall?",
    "Which city is this?",
    "What is he thinking?",
    "How heavy is it?",
    "What does the sign say?",
    "What happens next?",
    "What colour is it?",
    "How many people are there?",
)
_MOVES = ("Is the {} moving?", "Does the {} move?", "Does the {} keep still?", "Is the {} resting?")

Pair = tuple[str, str]


def about_class(
    shown: ClassName, every: Sequence[ClassName], most: int, rng: np.random.Generator, *, sure: bool
) -> list[Pair]:
    """Questions about a photo of one thing."""
    other = every[int(rng.integers(len(every)))]
    # A part of the wrong ones are near misses: of the same kind.
    if rng.random() < 0.4:
        near = [each for each in every if each.kind == shown.kind and each is not shown]
        other = near[int(rng.integers(len(near)))] if near else other
    if not sure:
        guess = f"{NOT_SURE} It might be {with_article(shown.name)}."
        asked = [(_one(_WHAT, rng), guess), (_one(_WHAT, rng), guess), (_there(other.name, rng), "No.")]
    else:
        named = with_article(shown.name)
        asked = [
            (_one(_WHAT, rng), f"{named[0].upper()}{named[1:]}."),
            (_one(_WHAT, rng), f"{named[0].upper()}{named[1:]}."),
            (_there(shown.name, rng), "Yes."),
            (_one(_ALIVE, rng), "Yes." if shown.lives else "No."),
        ]
        kind = with_article(shown.kind)
        asked.append((_one(_KIND, rng), f"{kind[0].upper()}{kind[1:]}."))
        if shown.kind != "thing":
            asked.append((_there(shown.kind, rng), "Yes."))
        asked.append((_one(_DESCRIBE, rng), _caption("photo", shown.name, shown.kind)))
    if other.name not in shown.names:
        asked.append((_there(other.name, rng), "No."))
    told_apart = other.kind != shown.kind and "thing" not in (other.kind, shown.kind)
    if told_apart and not (other.kind == "animal" and shown.lives):
        asked.append((_there(other.kind, rng), "No."))
    asked.append((_one(_MEDIUM, rng), "A photo."))
    return _some([*asked, (_one(_UNKNOWN, rng), NOT_SURE)], most, rng)


def about_drawing(name: str, others: Sequence[str], most: int, rng: np.random.Generator) -> list[Pair]:
    """Questions about an emoji."""
    named = with_article(name)
    asked = [
        (_one(_WHAT, rng), f"{named[0].upper()}{named[1:]}."),
        (_there(name, rng), "Yes."),
        (_one(_DESCRIBE, rng), _caption("drawing", name, "thing")),
        (_one(_MEDIUM, rng), "A drawing."),
        (_one(_UNKNOWN, rng), NOT_SURE),
    ]
    other = others[int(rng.integers(len(others)))]
    if other != name:
        asked.append((_there(other, rng), "No."))
    return _some(asked, most, rng)


def about_stage(scene: Scene, most: int, rng: np.random.Generator) -> list[Pair]:
    """Questions about what is seen of a stage; half of them in other words than the benchmark's."""
    drawn = [q for q in draw_questions(scene, 6 * most, rng) if q.template.type[0] == "Visual"]
    asked: list[Pair] = []
    for question in drawn:
        phrasings = PHRASINGS.get(question.template.text)
        text = question.text
        if phrasings is not None and rng.random() < 0.6:
            text = put_into(_one(phrasings.training, rng), question.template.text, question.values)
        asked.append((text, question.answer))
    for performer in scene.performers:
        wording = int(rng.integers(len(_MOVES)))
        moves = (performer.action != "still") == (wording < 2)
        asked.append((_MOVES[wording].format(performer.kind), "yes" if moves else "no"))
    return _some(asked, most, rng)


def about_nothing(rng: np.random.Generator) -> Pair:
    """A question about a picture where there is none."""
    return _one((*_WHAT[1:6], *_DESCRIBE), rng), NO_PICTURE


def _there(name: str, rng: np.random.Generator) -> str:
    return _one(_THERE, rng).format(with_article(name))


def _caption(medium: str, name: str, kind: str) -> str:
    rest = "" if kind == "thing" else f", {with_article(kind)}"
    return f"This is a {medium} of {with_article(name)}{rest}."


def _one(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _some(pairs: list[Pair], most: int, rng: np.random.Generator) -> list[Pair]:
    picked = [pairs[i] for i in rng.permutation(len(pairs))]
    return list(dict(picked).items())[:most]
