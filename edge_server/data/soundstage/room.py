"""A stage with several devices around it: seen from two sides, heard at two places, and as it was before.

    Room ──▶ front camera                 who stands left, middle, right
         ──▶ left camera                  the same instruments by how far back they stand
         ──▶ left, right microphone       the same sounds, each as loud as it is near
         ──▶ front camera, a while ago    who stood there then

A view is a :class:`edge_server.data.soundstage.scene.Scene` of what one device sees or hears, so that
pictures and sounds are made as for a clip of one device. No view tells what another one shows: places, depths
and levels are drawn apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from edge_server.data.soundstage.scene import (
    ACTIONS,
    KINDS,
    LEVEL_STEP_DB,
    MAX_SOUNDING,
    PLACES,
    Performer,
    Place,
    Scene,
    Sound,
    sample_onsets,
)

ViewName = Literal["front", "side", "earlier", "left_mic", "right_mic"]
VIEWS: tuple[ViewName, ...] = get_args(ViewName)
#: Views that are pictures, and views that are sounds; in the order in which a data set keeps them.
PICTURES: tuple[ViewName, ...] = ("front", "side", "earlier")
SOUNDS: tuple[ViewName, ...] = ("left_mic", "right_mic")

#: What a device is called in questions, and beside what it sent.
DEVICES: Mapping[ViewName, str] = {
    "front": "front camera",
    "side": "left camera",
    "earlier": "front camera",
    "left_mic": "left microphone",
    "right_mic": "right microphone",
}
#: Other words that a camera or microphone may be called by, to learn from; and those that only measure.
OTHER_WORDS = (
    *("porch", "kitchen", "door", "garden", "hall", "garage", "window", "back", "upper", "lower", "north"),
    *("south", "big", "small", "old", "new", "red", "blue", "main", "second", "corner", "street", "far"),
)
HELD_OUT_WORDS = ("roof", "cellar", "yard", "green")

_PERFORMERS_ODDS = (0.25, 0.75)
"""Of two and of three."""
_ACTION_ODDS = (0.65, 0.20, 0.15)
_OFF_STAGE_ODDS = (0.2, 0.45, 0.35)
_VOICE_ODDS = 0.2
_STAYS_PUT_ODDS = 0.5
_GONE_ODDS = 0.85


@dataclass(frozen=True)
class Room:
    """What each device sees or hears.

    Attributes:
        views: by name; every one of :data:`VIEWS`.
    """

    views: Mapping[ViewName, Scene]

    def __getitem__(self, view: ViewName) -> Scene:
        return self.views[view]


def label_of(view: ViewName, ago: str) -> str:
    """What stands beside a view in a prompt: whose it is, and when it was taken where that is not now.

    Args:
        view: which.
        ago: one of :data:`edge_server.scenes.words.AGOS`; of the earlier one.
    """
    return f"{DEVICES[view]} {ago}" if view == "earlier" else DEVICES[view]


def other_names(words: Sequence[str], rng: np.random.Generator) -> dict[str, str]:
    """Other names for the devices of a room: for each of :data:`DEVICES`, a word with what it is."""
    names = list(dict.fromkeys(DEVICES.values()))
    picked = rng.choice(len(words), len(names), replace=False)
    return {name: f"{words[int(i)]} {name.rsplit(' ', 1)[-1]}" for name, i in zip(names, picked, strict=True)}


def renamed(text: str, names: Mapping[str, str]) -> str:
    """A question or label with other names of devices."""
    for name, other in names.items():
        text = text.replace(name, other)
    return text


def sample_room(rng: np.random.Generator) -> Room:
    """Draw a room.

    Args:
        rng: source of all randomness; one generator, one sequence of rooms.
    """
    kinds = [KINDS[i] for i in rng.permutation(len(KINDS))]
    count = 2 + int(rng.choice(2, p=_PERFORMERS_ODDS))
    across, deep = _places(count, rng), _places(count, rng)
    cast = [(kinds.pop(), ACTIONS[int(rng.choice(3, p=_ACTION_ODDS))]) for _ in range(count)]
    front = [Performer(kind, place, action) for (kind, action), place in zip(cast, across, strict=True)]
    side = [Performer(kind, place, action) for (kind, action), place in zip(cast, deep, strict=True)]
    heard: list[tuple[str, Place | None]] = [(p.kind, p.place) for p in front if p.action == "playing"]
    off_stage = min(int(rng.choice(3, p=_OFF_STAGE_ODDS)), MAX_SOUNDING - len(heard))
    heard += [(kinds.pop(), None) for _ in range(off_stage)]
    levels = [_levels(len(heard), rng) for _ in SOUNDS]
    onsets = sample_onsets(len(heard), rng)
    order = rng.permutation(len(heard))
    voice_over = bool(rng.random() < _VOICE_ODDS)
    seed = int(rng.integers(2**61))

    def at(microphone: int) -> Scene:
        sounds = [
            Sound(heard[i][0], heard[i][1], onset, levels[microphone][i])
            for i, onset in zip(order, onsets, strict=True)
        ]
        # The same seed: what is played is played once, and heard at both.
        return Scene((), tuple(sounds), voice_over, seed)

    earlier = _earlier(front, kinds.pop(), rng)
    return Room(
        {
            "front": _picture(front, seed),
            "side": _picture(side, seed + 1),
            "earlier": _picture(earlier, seed + 2),
            "left_mic": at(0),
            "right_mic": at(1),
        }
    )


def _places(count: int, rng: np.random.Generator) -> list[Place]:
    return [PLACES[int(i)] for i in rng.choice(len(PLACES), count, replace=False)]


def _picture(performers: list[Performer], seed: int) -> Scene:
    return Scene(tuple(sorted(performers, key=lambda p: PLACES.index(p.place))), (), False, seed)


def _levels(count: int, rng: np.random.Generator) -> list[float]:
    """Level of each sound at a microphone [dB]; what is the loudest at one may be far away from another.

    A step is what an instrument loses that is 1.8 times as far away.
    """
    steps = rng.permutation(MAX_SOUNDING)[:count]
    return [float(level) for level in -LEVEL_STEP_DB * steps + rng.uniform(-0.5, 0.5, count)]


def _earlier(now: list[Performer], other: str, rng: np.random.Generator) -> list[Performer]:
    """Who stood there before: mostly one of those that are there now did not, and another did."""
    stayed = list(now)
    if rng.random() < _GONE_ODDS:
        stayed.pop(int(rng.integers(len(stayed))))
    kinds = [performer.kind for performer in stayed]
    if len(stayed) < len(PLACES) and (len(stayed) < 2 or rng.random() < _GONE_ODDS):
        kinds.append(other)
    places = {performer.kind: performer.place for performer in stayed}
    if rng.random() < _STAYS_PUT_ODDS:
        free = [place for place in PLACES if place not in places.values()]
        place_of = {kind: places.get(kind) or free[int(rng.integers(len(free)))] for kind in kinds}
    else:
        place_of = dict(zip(kinds, _places(len(kinds), rng), strict=True))
    return [Performer(kind, place_of[kind], ACTIONS[int(rng.choice(3, p=_ACTION_ODDS))]) for kind in kinds]
