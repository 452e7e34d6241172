"""Combinations of instrument, place and motion that training never shows, to see what comes of new ones.

Each instrument is held out at one place with one motion; it is shown at the other places, and there with
either motion, so that every part of a combination is well known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from edge_server.data.soundstage.scene import KINDS, PLACES, Scene

CombinationsName = Literal["all", "seen", "unseen"]

#: Of a combination: whether its instrument moves.
MOTIONS = (True, False)
#: (instrument, place, whether it moves).
HELD_OUT = frozenset(
    (kind, PLACES[i % len(PLACES)], MOTIONS[i // len(PLACES) % len(MOTIONS)]) for i, kind in enumerate(KINDS)
)


def is_new(scene: Scene) -> bool:
    """Whether a scene shows a combination that is held out."""
    return any((p.kind, p.place, p.action != "still") in HELD_OUT for p in scene.performers)


#: Which scenes a split may have.
COMBINATIONS: Mapping[CombinationsName, Callable[[Scene], bool]] = {
    "all": lambda scene: True,
    "seen": lambda scene: not is_new(scene),
    "unseen": is_new,
}
