"""Questions about what is heard, in many wordings, with answers in plain English."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_server.training.open_small.asking import Pair, one, some
from edge_server.weights.captions import NOT_SURE
from edge_server.weights.names import with_article
from edge_server.weights.sound_names import SILENCE, SPEECH, SoundName

NO_SOUND = "I hear nothing."

_WHAT = (
    "What do you hear?",
    "What is heard?",
    "What can you hear?",
    "What sound is this?",
    "Which sound is it?",
    "What is making this sound?",
    "Name the sound.",
    "What does it sound like?",
    "What is to be heard in the recording?",
    "Identify the sound.",
)
_INSTRUMENT = (
    "Which instrument is playing?",
    "What instrument is it?",
    "Which instrument do you hear?",
    "Name the instrument.",
)
_KIND = ("What kind of thing makes the sound?", "What sort of sound is it?", "Broadly, what is heard?")
_THERE = (
    "Do you hear {}?",
    "Is {} heard?",
    "Can you hear {}?",
    "Is this the sound of {}?",
    "Is it {}?",
    "Does it sound like {}?",
)
_SPEAKS = (
    "Is somebody speaking?",
    "Does anybody talk?",
    "Is anyone speaking?",
    "Is there a voice?",
    "Do you hear somebody talk?",
    "Is a person speaking?",
)
_MUSIC = ("Is music playing?", "Do you hear music?", "Is there an instrument?", "Does somebody play music?")
_LEVEL = ("Is it loud or quiet?", "How loud is it?", "Loud or quiet?", "Is the sound loud or is it quiet?")
_IS_LEVEL = ("Is it {}?", "Is the sound {}?", "Would you call it {}?")
_DESCRIBE = ("Describe the sound.", "Describe what you hear.", "Caption this sound.")
_UNKNOWN = (
    "Who is speaking?",
    "What is she saying?",
    "Where was this recorded?",
    "How many people are there?",
    "What is the weather like?",
    "Which song is this?",
    "How far away is it?",
    "What time is it?",
)


def about_sound(
    heard: SoundName,
    level: str,
    every: Sequence[SoundName],
    most: int,
    rng: np.random.Generator,
    *,
    sure: bool,
) -> list[Pair]:
    """Questions about one sound.

    Args:
        heard: what it is.
        level: "loud", "quiet", or "" where the caption does not say.
        every: sounds that wrong ones are drawn from.
        most: questions.
        rng: draws.
        sure: whether the caption says it, or guesses.
    """
    if heard is SILENCE:
        return some(_about_silence(every, rng), most, rng)
    named = heard.named
    said = f"{named[0].upper()}{named[1:]}."
    if not sure:
        guess = f"{NOT_SURE} It might be {named}."
        return some([(one(_WHAT, rng), guess), (one(_WHAT, rng), guess), *_level(level, rng)], most, rng)
    asked = [(one(_WHAT, rng), said), (one(_WHAT, rng), said), (one(_THERE, rng).format(named), "Yes.")]
    asked.append((one(_SPEAKS, rng), "Yes." if heard is SPEECH else "No."))
    asked.append((one(_MUSIC, rng), "Yes." if heard.is_music else "No."))
    if heard.is_music:
        asked.append((one(_INSTRUMENT, rng), said))
    if heard.kind != "thing":
        kind = with_article(heard.kind)
        asked.append((one(_KIND, rng), f"{kind[0].upper()}{kind[1:]}."))
    others = [each for each in every if each.kind == heard.kind] if rng.random() < 0.5 else list(every)
    other = others[int(rng.integers(len(others)))]
    if other.name not in heard.names and other is not SILENCE:
        asked.append((one(_THERE, rng).format(other.named), "No."))
    asked.append((one(_DESCRIBE, rng), f"This is the sound of {named}."))
    asked.append((one(_UNKNOWN, rng), NOT_SURE))
    return some([*asked, *_level(level, rng)], most, rng)


def about_no_sound(rng: np.random.Generator) -> Pair:
    """A question about a sound where there is none."""
    return one((*_WHAT[:3], _DESCRIBE[1]), rng), NO_SOUND


def _about_silence(every: Sequence[SoundName], rng: np.random.Generator) -> list[Pair]:
    wrong = one([each.named for each in every if each is not SILENCE], rng)
    return [
        (one(_WHAT, rng), NO_SOUND),
        (one(_THERE, rng).format(wrong), "No."),
        (one(_SPEAKS, rng), "No."),
        (one(_MUSIC, rng), "No."),
        (one(_IS_LEVEL, rng).format("loud"), "No."),
    ]


def _level(level: str, rng: np.random.Generator) -> list[Pair]:
    asked = one(_LEVEL, rng)
    if not level:
        return [(asked, NOT_SURE)]
    other = "quiet" if level == "loud" else "loud"
    return [
        (asked, f"{level.capitalize()}."),
        (one(_IS_LEVEL, rng).format(level), "Yes."),
        (one(_IS_LEVEL, rng).format(other), "No."),
    ]
