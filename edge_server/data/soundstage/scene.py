"""What happens on a stage: the latent state that pictures, sounds, captions and questions are made from.

    Scene ──▶ picture.py   (frames)
          ──▶ sound.py     (PCM)
          ──▶ captions.py  (text)
          ──▶ questions.py (question and answer)

A scene holds at most one instrument of a kind, on stage or off, so that "the violin" is never ambiguous.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Place = Literal["left", "middle", "right"]
Action = Literal["playing", "miming", "still"]

KINDS: tuple[str, ...] = (
    "violin",
    "piano",
    "trumpet",
    "drum",
    "guitar",
    "saxophone",
    "accordion",
    "banjo",
    "flute",
    "conga",
)
PLACES: tuple[Place, ...] = ("left", "middle", "right")
ACTIONS: tuple[Action, ...] = ("playing", "miming", "still")

#: Length of a clip [s].
DURATION_S = 4.0
#: Instruments that may sound at once, on and off stage.
MAX_SOUNDING = 3
#: Step between the levels of instruments that sound together [dB]; a difference everybody hears.
LEVEL_STEP_DB = 5.0
#: Least time between two instruments coming in [s].
ONSET_GAP_S = 0.6

_ON_STAGE_ODDS = (0.05, 0.25, 0.35, 0.35)
_ACTION_ODDS = (0.55, 0.25, 0.20)
_OFF_STAGE_ODDS = (0.55, 0.35, 0.10)
_VOICE_ODDS = 0.35
_LATEST_ONSET_S = 2.4


@dataclass(frozen=True)
class Performer:
    """An instrument on stage. Playing and miming performers move, still ones do not."""

    kind: str
    place: Place
    action: Action


@dataclass(frozen=True)
class Sound:
    """An instrument that is heard.

    Attributes:
        kind: the instrument.
        place: where it is on stage; None when it is off stage.
        onset_s: when it comes in [s]; it then plays to the end of the clip.
        level_db: loudness while it plays, relative to the clip's reference [dB].
    """

    kind: str
    place: Place | None
    onset_s: float
    level_db: float


@dataclass(frozen=True)
class Scene:
    """One stage: who stands where, what is heard, in order of coming in, and whether somebody speaks."""

    performers: tuple[Performer, ...]
    sounds: tuple[Sound, ...]
    voice_over: bool
    seed: int

    def at(self, place: Place) -> Performer | None:
        """The performer at a place, if any."""
        return next((p for p in self.performers if p.place == place), None)

    def sound_of(self, kind: str) -> Sound | None:
        """The sound of a kind of instrument, if it is heard."""
        return next((s for s in self.sounds if s.kind == kind), None)

    @property
    def by_loudness(self) -> tuple[Sound, ...]:
        """Sounds, loudest first."""
        return tuple(sorted(self.sounds, key=lambda s: -s.level_db))


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene.

    Args:
        rng: source of all randomness; one generator, one sequence of scenes.
    """
    kinds = list(rng.permutation(len(KINDS)))
    count = int(rng.choice(4, p=_ON_STAGE_ODDS))
    places = sorted(rng.choice(3, size=count, replace=False))
    performers = tuple(
        Performer(
            kind=KINDS[kinds.pop()],
            place=PLACES[place],
            action=ACTIONS[int(rng.choice(3, p=_ACTION_ODDS))],
        )
        for place in places
    )
    heard: list[tuple[str, Place | None]] = [(p.kind, p.place) for p in performers if p.action == "playing"]
    off_stage = int(rng.choice(3, p=_OFF_STAGE_ODDS))
    for _ in range(min(off_stage, MAX_SOUNDING - len(heard))):
        heard.append((KINDS[kinds.pop()], None))
    onsets = sample_onsets(len(heard), rng)
    levels = -LEVEL_STEP_DB * rng.permutation(MAX_SOUNDING)[: len(heard)] + rng.uniform(-0.5, 0.5, len(heard))
    order = rng.permutation(len(heard))
    sounds = tuple(
        Sound(kind=heard[i][0], place=heard[i][1], onset_s=float(onset), level_db=float(level))
        for i, onset, level in zip(order, onsets, levels, strict=True)
    )
    return Scene(
        performers=performers,
        sounds=sounds,
        voice_over=bool(rng.random() < _VOICE_ODDS),
        seed=int(rng.integers(2**62)),
    )


def sample_onsets(count: int, rng: np.random.Generator) -> list[float]:
    """Draw ascending onsets [s], at least ONSET_GAP_S apart."""
    slack = _LATEST_ONSET_S - ONSET_GAP_S * max(count - 1, 0)
    starts = np.sort(rng.uniform(0.0, slack, count))
    return [float(start + ONSET_GAP_S * i) for i, start in enumerate(starts)]
