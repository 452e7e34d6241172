"""Captions as people write them: one free text of a whole clip, of picture and sound together.

:mod:`~edge_server.data.soundstage.captions` says every fact in a fixed form. Here a fact has many wordings,
clauses come in any order, facts of one instrument come in any order and some are left out, so that nothing
can key on the form of a caption. As in VALOR (Chen et al. 2023), there is one text for a clip, not one for
the picture and one for the sound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_server.data.soundstage.scene import Performer, Scene, Sound

#: How often a fact that could be told of an instrument is left out.
OMITTED_ODDS = 0.15
#: How often an instrument is not mentioned at all.
UNMENTIONED_ODDS = 0.03
#: How often nothing is said of a voice that is not there.
NO_VOICE_UNSAID_ODDS = 0.5

_AT = {
    "left": ("on the left", "at the left", "on the left side", "over on the left"),
    "middle": ("in the middle", "at the centre", "in the centre", "right in the middle"),
    "right": ("on the right", "at the right", "on the right side", "over on the right"),
}
_PLAYING = (
    "{at} a {kind} plays",
    "a {kind} plays {at}",
    "{at} somebody plays the {kind}",
    "there is a {kind} {at} that sounds",
    "the {kind} {at} performs",
    "you can see and hear a {kind} {at}",
    "a man {at} is playing a {kind}",
)
_MIMING = (
    "{at} a silent {kind} mimes",
    "the {kind} {at} moves but makes no sound",
    "{at} somebody pretends to play the {kind}",
    "a {kind} is swinging {at} without a sound",
    "a silent {kind} gestures {at}",
)
_STILL = (
    "{at} a silent {kind} rests",
    "the {kind} {at} does not move",
    "a {kind} waits {at}",
    "there is a {kind} standing still {at}",
    "nobody plays the {kind} {at}",
)
#: What is said of a silent instrument where what it does is left out.
_SEEN = ("there is a {kind} {at}", "{at} you see a {kind}", "a {kind} is visible {at}")
_OFF_STAGE = (
    "from off stage a {kind} is heard",
    "somewhere off stage a {kind} plays",
    "you can hear a {kind} but not see it",
    "a {kind} that is not in the picture plays",
)
_ENTRY = (
    ("first", "before the others", "at the beginning"),
    ("second", "as the second one", "after the first"),
    ("third", "as the third one", "after the second"),
)
_ENTERS = ("{entry}", "coming in {entry}", "it comes in {entry}", "which starts {entry}")
_LOUD = (
    ("loudest", "strongest"),
    ("moderate", "neither loud nor soft"),
    ("softest", "quietest"),
)
_IS_LOUD = ("{loud}", "it is the {loud}", "being the {loud}", "which is {loud}")
_VOICE = ("somebody speaks over it", "a voice speaks", "there is a voiceover", "a woman is talking over it")
_NO_VOICE = ("nobody speaks", "no voice is heard", "there is no voiceover", "nobody is talking")
_EMPTY_STAGE = ("the stage is empty", "nobody is on stage", "there is nothing to be seen")
_SILENCE = ("no music is heard", "there is no music", "it is silent")
_BETWEEN = (" . ", " . ", " , and ", " ; ", " , while ")
_INSIDE = (" , ", " and ", " , and ")


def free_caption(scene: Scene, rng: np.random.Generator) -> str:
    """What somebody might write about a clip; ends with a full stop.

    Args:
        scene: what happens in it.
        rng: source of all randomness.
    """
    clauses = [_performer(scene, p, rng) for p in scene.performers if rng.random() >= UNMENTIONED_ODDS]
    clauses += [
        _with_facts(_pick(_OFF_STAGE, rng).format(kind=sound.kind), scene, sound, rng)
        for sound in scene.sounds
        if sound.place is None and rng.random() >= UNMENTIONED_ODDS
    ]
    if not scene.performers:
        clauses.append(_pick(_EMPTY_STAGE, rng))
    if not scene.sounds:
        clauses.append(_pick(_SILENCE, rng))
    if scene.voice_over:
        clauses.append(_pick(_VOICE, rng))
    elif rng.random() >= NO_VOICE_UNSAID_ODDS or not clauses:
        clauses.append(_pick(_NO_VOICE, rng))
    first, *others = [clauses[i] for i in rng.permutation(len(clauses))]
    rest = "".join(_pick(_BETWEEN, rng) + clause for clause in others)
    return f"{first}{rest} ."


def _performer(scene: Scene, performer: Performer, rng: np.random.Generator) -> str:
    named = {"at": _pick(_AT[performer.place], rng), "kind": performer.kind}
    sound = scene.sound_of(performer.kind)
    if sound is not None:
        return _with_facts(_pick(_PLAYING, rng).format(**named), scene, sound, rng)
    does = _MIMING if performer.action == "miming" else _STILL
    return _pick(_SEEN if _left_out(rng) else does, rng).format(**named)


def _with_facts(core: str, scene: Scene, sound: Sound, rng: np.random.Generator) -> str:
    """A clause about a sound with its entry and its loudness, in any order, or without them."""
    facts = []
    if not _left_out(rng):
        entry = _pick(_ENTRY[scene.sounds.index(sound)], rng)
        facts.append(_pick(_ENTERS, rng).format(entry=entry))
    if not _left_out(rng):
        level = scene.by_loudness.index(sound)
        last = level and level == len(scene.sounds) - 1
        facts.append(_pick(_IS_LOUD, rng).format(loud=_pick(_LOUD[-1 if last else level], rng)))
    facts = [facts[i] for i in rng.permutation(len(facts))]
    return core + "".join(_pick(_INSIDE, rng) + fact for fact in facts)


def _left_out(rng: np.random.Generator) -> bool:
    return bool(rng.random() < OMITTED_ODDS)


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
