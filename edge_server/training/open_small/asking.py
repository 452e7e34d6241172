"""Questions about what a picture shows, in many wordings, with answers in plain English.

What no caption says is answered by "I am not sure.", and so is what has nothing to do with any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from edge_server.data.soundstage import outsiders
from edge_server.data.soundstage.wordings import pseudo_word
from edge_server.weights.captions import COLOURS, NOT_SURE, SIDES
from edge_server.weights.names import ClassName, with_article

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
    "How many people are there?",
    "How many of them are there?",
    "How many {} are there?",
    "Is it moving?",
)
_COLOUR = (
    "What colour is it?",
    "What color is it?",
    "Which colour does it have?",
    "What colour is the {}?",
    "What is the color of the {}?",
    "Name its colour.",
    "What's the main colour?",
)
_IS_COLOUR = (
    "Is it {}?",
    "Is its colour {}?",
    "Would you call it {}?",
    "Is the thing {}?",
    "Does it look {}?",
)
_SIDE = (
    "Where is it?",
    "Is it left or right?",
    "Is it on the left or on the right?",
    "Where in the picture is the {}?",
    "On which side is the {}?",
    "Left, middle or right?",
    "Where can the {} be seen?",
)
_IS_SIDE = ("Is it {}?", "Is the {thing} {}?", "Is the {thing} to be seen {}?", "Can it be seen {}?")

_ELSEWHERE = outsiders.training_sentences()
_REQUESTS = [each for each in _ELSEWHERE if " " in each and "<" not in each]
_OF_OTHERS = [each for each in _ELSEWHERE if "<" in each]

Pair = tuple[str, str]
Choice = TypeVar("Choice")


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
        asked = [(one(_WHAT, rng), guess), (one(_WHAT, rng), guess), (one(_DESCRIBE, rng), guess)]
        doubtful = _there(shown.name, rng), one(_ALIVE, rng), one(_KIND, rng)
        asked += [(question, NOT_SURE) for question in doubtful]
    else:
        named = with_article(shown.name)
        asked = [
            (one(_WHAT, rng), f"{named[0].upper()}{named[1:]}."),
            (one(_WHAT, rng), f"{named[0].upper()}{named[1:]}."),
            (_there(shown.name, rng), "Yes."),
            (one(_ALIVE, rng), "Yes." if shown.lives else "No."),
        ]
        kind = with_article(shown.kind)
        asked.append((one(_KIND, rng), f"{kind[0].upper()}{kind[1:]}."))
        if shown.kind != "thing":
            asked.append((_there(shown.kind, rng), "Yes."))
        asked.append((one(_DESCRIBE, rng), _caption("photo", shown.name, shown.kind)))
    if other.name not in shown.names:
        asked.append((_there(other.name, rng), "No."))
    told_apart = other.kind != shown.kind and "thing" not in (other.kind, shown.kind)
    if told_apart and not (other.kind == "animal" and shown.lives):
        asked.append((_there(other.kind, rng), "No."))
    asked.append((one(_MEDIUM, rng), "A photo."))
    return some([*asked, (one(_UNKNOWN, rng).format(other.name), NOT_SURE)], most, rng)


def about_drawing(name: str, others: Sequence[str], most: int, rng: np.random.Generator) -> list[Pair]:
    """Questions about an emoji."""
    named = with_article(name)
    asked = [
        (one(_WHAT, rng), f"{named[0].upper()}{named[1:]}."),
        (_there(name, rng), "Yes."),
        (one(_DESCRIBE, rng), _caption("drawing", name, "thing")),
        (one(_MEDIUM, rng), "A drawing."),
        (one(_UNKNOWN, rng).format(name), NOT_SURE),
    ]
    other = others[int(rng.integers(len(others)))]
    if other != name:
        asked.append((_there(other, rng), "No."))
    return some(asked, most, rng)


def about_colour(colour: str, thing: str, rng: np.random.Generator) -> list[Pair]:
    """Questions about the colour that a caption tells, or does not."""
    asked = one(_COLOUR, rng).format(thing)
    other = one(COLOURS[1:], rng)
    if not colour:
        return [(asked, NOT_SURE), (one(_IS_COLOUR, rng).format(other), NOT_SURE)]
    pairs = [(asked, f"{colour.capitalize()}."), (one(_IS_COLOUR, rng).format(colour), "Yes.")]
    return pairs if other == colour else [*pairs, (one(_IS_COLOUR, rng).format(other), "No.")]


def about_side(side: str, thing: str, rng: np.random.Generator) -> list[Pair]:
    """Questions about where a caption says that a thing is, or does not."""
    asked = one(_SIDE, rng).format(thing)
    other = one(SIDES[1:], rng)
    if not side:
        return [(asked, NOT_SURE)]
    pairs = [(asked, f"{side.capitalize()}."), (one(_IS_SIDE, rng).format(side, thing=thing), "Yes.")]
    return pairs if other == side else [*pairs, (one(_IS_SIDE, rng).format(other, thing=thing), "No.")]


def about_something_else(rng: np.random.Generator) -> Pair:
    """A question that nothing seen or heard answers: requests, other things, no words at all."""
    odds = rng.random()
    if odds < 0.5:
        question = one(_REQUESTS, rng)
    elif odds < 0.7:
        # Halves of two requests: neither is learned by heart.
        first, second = one(_REQUESTS, rng).split(), one(_REQUESTS, rng).split()
        question = " ".join(first[: 1 + len(first) // 2] + second[len(second) // 2 :])
    elif odds < 0.85:
        question = one(_OF_OTHERS, rng).replace("<Object>", pseudo_word(rng))
    else:
        question = " ".join(pseudo_word(rng) for _ in range(int(rng.integers(2, 8)))) + "?"
    return question, NOT_SURE


def about_nothing(rng: np.random.Generator) -> Pair:
    """A question about a picture where there is none."""
    return one((*_WHAT[1:4], *_WHAT[5:6], *_DESCRIBE[:1]), rng), NO_PICTURE


def _there(name: str, rng: np.random.Generator) -> str:
    return one(_THERE, rng).format(with_article(name))


def _caption(medium: str, name: str, kind: str) -> str:
    rest = "" if kind == "thing" else f", {with_article(kind)}"
    return f"This is a {medium} of {with_article(name)}{rest}."


def one(choices: Sequence[Choice], rng: np.random.Generator) -> Choice:
    """One of them, drawn."""
    return choices[int(rng.integers(len(choices)))]


def some(pairs: list[Pair], most: int, rng: np.random.Generator) -> list[Pair]:
    """At most so many of them, drawn, no question twice."""
    picked = [pairs[i] for i in rng.permutation(len(pairs))]
    return list(dict(picked).items())[:most]
