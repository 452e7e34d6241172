"""A scene in words, in varied wording.

Three texts of one scene:

- :func:`describe`: the whole scene, a clause per instrument (VALOR's ``desc``). It states every fact that
  a question may ask for; a model that reads it is the *text oracle*.
- :func:`describe_picture` and :func:`describe_sound`: what can be seen alone, what can be heard alone.
  Stage 1 aligns image tokens with the former and audio tokens with the latter.

:func:`picture_words` and :func:`sound_words` are what describes picture and sound in a fixed number of words,
each always in the same place: left to right, first to last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_server.data.soundstage.scene import MAX_SOUNDING, PLACES, Performer, Scene, Sound

_PLACE = {
    "left": ("on the left", "at the left"),
    "middle": ("in the middle", "at the middle"),
    "right": ("on the right", "at the right"),
}
_OFF_STAGE = ("from off stage", "somewhere off stage")
# What is said of an instrument always stands equally far from its name, and near it, which is what a small
# foundation can learn to bind in little time. Wording varies in the words and in the order of clauses.
_PLAYS = ("plays", "sounds", "performs")
_MIMES = ("mimes", "pretends", "gestures")
_STILL = ("rests", "waits", "pauses")
_MOVING = ("moving", "swaying", "swinging")
_RESTING = ("resting", "waiting", "pausing")
_ORDER = ("first", "second", "third")
_LOUDNESS = ("loudest", "moderate", "softest")
_SEEN = ("is seen", "is visible", "stands")
_VOICE = ("somebody speaks over it", "a voice speaks over it", "there is a voiceover")
_NO_VOICE = ("nobody speaks", "no voice is heard", "there is no voiceover")
_EMPTY_STAGE = ("the stage is empty", "nobody is on stage")
_SILENCE = ("no music is heard", "there is no music")
_NOTHING = "."


def describe(scene: Scene, rng: np.random.Generator) -> str:
    """The whole scene: every instrument with its place, what it does, its entry and its loudness."""
    clauses = [_performer_clause(scene, p, rng) for p in scene.performers]
    clauses += [
        f"{_pick(_OFF_STAGE, rng)} {_sound_clause(scene, s, rng)}" for s in scene.sounds if s.place is None
    ]
    clauses = [clauses[i] for i in rng.permutation(len(clauses))]
    if not scene.performers:
        clauses.insert(0, _pick(_EMPTY_STAGE, rng))
    if not scene.sounds:
        clauses.append(_pick(_SILENCE, rng))
    clauses.append(_voice(scene, rng))
    return _join(clauses)


def describe_picture(scene: Scene, rng: np.random.Generator) -> str:
    """What a deaf observer can tell: which instrument is where, and whether it moves."""
    if not scene.performers:
        return _join([_pick(_EMPTY_STAGE, rng)])
    clauses = []
    for i in rng.permutation(len(scene.performers)):
        performer = scene.performers[i]
        motion = _pick(_RESTING if performer.action == "still" else _MOVING, rng)
        place = _pick(_PLACE[performer.place], rng)
        clauses.append(f"{place} a {motion} {performer.kind} {_pick(_SEEN, rng)}")
    return _join(clauses)


def describe_sound(scene: Scene, rng: np.random.Generator) -> str:
    """What a blind observer can tell: what is heard, in which order, how loud; whether somebody speaks."""
    clauses = [_sound_clause(scene, scene.sounds[i], rng) for i in rng.permutation(len(scene.sounds))]
    if not clauses:
        clauses = [_pick(_SILENCE, rng)]
    clauses.append(_voice(scene, rng))
    return _join(clauses)


def picture_words(scene: Scene) -> list[str]:
    """Four words for each place, left to right: "left a moving violin"; full stops where nobody stands."""
    words: list[str] = []
    for place in PLACES:
        performer = scene.at(place)
        if performer is None:
            words += [_NOTHING] * 4
        else:
            motion = (_RESTING if performer.action == "still" else _MOVING)[0]
            words += [place, "a", motion, performer.kind]
    return words


def sound_words(scene: Scene) -> list[str]:
    """Four words for each sound, first to last: "loudest violin plays first"; then, does somebody speak."""
    words: list[str] = []
    for sound in scene.sounds:
        words += [_loudness(scene, sound), sound.kind, _PLAYS[0], _entry(scene, sound)]
    words += [_NOTHING] * (4 * MAX_SOUNDING - len(words))
    return words + (_VOICE if scene.voice_over else _NO_VOICE)[0].split()[:2]


def _performer_clause(scene: Scene, performer: Performer, rng: np.random.Generator) -> str:
    place = _pick(_PLACE[performer.place], rng)
    sound = scene.sound_of(performer.kind)
    if sound is not None:
        return f"{place} {_sound_clause(scene, sound, rng)}"
    verb = _pick(_MIMES if performer.action == "miming" else _STILL, rng)
    return f"{place} a silent {performer.kind} {verb}"


def _sound_clause(scene: Scene, sound: Sound, rng: np.random.Generator) -> str:
    """Loudness and entry of a sound among those heard: "the loudest violin plays first"."""
    return f"the {_loudness(scene, sound)} {sound.kind} {_pick(_PLAYS, rng)} {_entry(scene, sound)}"


def _loudness(scene: Scene, sound: Sound) -> str:
    level = scene.by_loudness.index(sound)
    last = level == len(scene.sounds) - 1
    return _LOUDNESS[-1] if last and level else _LOUDNESS[level]


def _entry(scene: Scene, sound: Sound) -> str:
    return _ORDER[scene.sounds.index(sound)]


def _voice(scene: Scene, rng: np.random.Generator) -> str:
    return _pick(_VOICE if scene.voice_over else _NO_VOICE, rng)


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _join(clauses: Sequence[str]) -> str:
    return " . ".join(clauses) + " ."
