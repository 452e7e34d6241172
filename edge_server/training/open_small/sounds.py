"""Sounds that the listener learns from: recordings of a folder, instruments of General MIDI, spoken words.

Recordings are named as ESC-10's are, ``dog-bark_1-100032-A.ogg``: class, fold, and what tells takes apart.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from device_agent.media.loading import clip_from_file
from edge_server.data.soundstage.sound import SAMPLE_RATE_HZ, play_note, speak
from edge_server.errors import DatasetError
from edge_server.weights.sound_names import ENVIRONMENT, INSTRUMENTS, SOUNDS, SoundName

Pcm = npt.NDArray[np.float32]

#: Folds of ESC-10 that are learned from; the others are there to measure on.
FOLDS = (1, 2, 3)
_LOWEST, _HIGHEST = 36, 92
_KEYS_APART = 2
_NOTE_S = 2.5
_SPOKEN_TEXTS = (
    "the train to the city leaves at seven in the morning from the second platform",
    "I have never seen so many stars in one night, she said, and closed the window",
    "please remember to bring your books back before the end of the month",
    "what are we going to have for dinner, and who is going to cook it",
    "it has been raining since yesterday and the river is rising again",
    "could you tell me how to get to the museum from here",
    "my brother works in a small garage behind the old church",
    "thank you very much for calling, all our lines are busy at the moment",
)
_SPOKEN_VOICES = tuple(
    f"{language}{variant}"
    for language in ("en-us", "en-gb", "de", "fr", "es", "it")
    for variant in ("", "+f2", "+m3", "+f4", "+m7", "+f5")
)


def recordings(folder: Path, folds: Sequence[int] = FOLDS) -> dict[SoundName, list[Pcm]]:
    """Recordings of a folder by what is heard.

    Raises:
        DatasetError: a class of the environment has none.
    """
    by_name = {sound.name.replace(" ", "-"): sound for sound in ENVIRONMENT}
    found: dict[SoundName, list[Pcm]] = {sound: [] for sound in ENVIRONMENT}
    for path in sorted(folder.glob("*_*-*-*")):
        name, rest = path.stem.split("_", 1)
        if name in by_name and rest.split("-")[0] in map(str, folds):
            pcm = clip_from_file(path, kind="audio").pcm_S
            assert pcm is not None  # noqa: S101 - clips of sound have it
            found[by_name[name]].append(np.asarray(pcm, np.float32))
    missing = [sound.name for sound, takes in found.items() if not takes]
    if missing:
        raise DatasetError(f"{folder}: no recording of {missing[0]} in folds {', '.join(map(str, folds))}")
    return found


@functools.cache
def instruments() -> dict[SoundName, list[Pcm]]:
    """Notes of every instrument over its range, of several lengths and strengths.

    Raises:
        DatasetError: the soundfont is not installed.
    """
    rng = np.random.default_rng(11)
    found: dict[SoundName, list[Pcm]] = {}
    for sound in INSTRUMENTS:
        low, high = _RANGES.get(sound.name, (_LOWEST, _HIGHEST))
        keys = [key for key in range(low, high, _KEYS_APART) for _ in sound.programs[:2]]
        found[sound] = [
            play_note(
                int(rng.choice(sound.programs)),
                key,
                velocity=int(rng.integers(50, 125)),
                held_s=float(rng.choice([0.15, 0.5, 1.0, 2.0])),
                whole_s=_NOTE_S,
            )
            for key in keys
        ]
    return found


@functools.cache
def voices() -> list[Pcm]:
    """Sentences in several languages and voices.

    Raises:
        DatasetError: espeak-ng is not installed.
    """
    rng = np.random.default_rng(12)
    texts = rng.integers(len(_SPOKEN_TEXTS), size=len(_SPOKEN_VOICES))
    return [
        speak(voice, _SPOKEN_TEXTS[text], int(rng.integers(120, 190)))
        for voice, text in zip(_SPOKEN_VOICES, texts, strict=True)
    ]


def class_of(sound: SoundName) -> int:
    """Its place among the listener's classes."""
    return SOUNDS.index(sound)


# Lowest and highest key that players reach, where it is narrower than what is drawn from.
_RANGES = {
    "banjo": (48, 80),
    "cello": (36, 80),
    "clarinet": (50, 90),
    "double bass": (28, 62),
    "flute": (59, 94),
    "french horn": (36, 78),
    "guitar": (40, 80),
    "oboe": (58, 90),
    "saxophone": (46, 84),
    "trombone": (34, 74),
    "trumpet": (54, 84),
    "violin": (55, 94),
}

__all__ = ["FOLDS", "SAMPLE_RATE_HZ", "Pcm", "class_of", "instruments", "recordings", "voices"]
