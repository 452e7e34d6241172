"""What an attacker wants to know of a clip: attributes of its scene, slot by slot, each one of a few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_server.data.soundstage.scene import KINDS, MAX_SOUNDING, PLACES, Scene

#: Classes: an instrument by its number, and none.
_NONE = len(KINDS)

Attribute = Callable[[Scene], int]


def _kind_at(place: str) -> Attribute:
    def of(scene: Scene) -> int:
        found = next((p.kind for p in scene.performers if p.place == place), None)
        return _NONE if found is None else KINDS.index(found)

    return of


def _moves_at(place: str) -> Attribute:
    def of(scene: Scene) -> int:
        found = next((p.action for p in scene.performers if p.place == place), None)
        return 2 if found is None else int(found != "still")

    return of


def _heard(entry: int) -> Attribute:
    def of(scene: Scene) -> int:
        return KINDS.index(scene.sounds[entry].kind) if entry < len(scene.sounds) else _NONE

    return of


def _loudest(scene: Scene) -> int:
    return KINDS.index(scene.by_loudness[0].kind) if scene.sounds else _NONE


#: By slot and name.
ATTRIBUTES: Mapping[str, Mapping[str, Attribute]] = {
    "visual": {
        **{f"instrument on the {place}": _kind_at(place) for place in PLACES},
        **{f"motion on the {place}": _moves_at(place) for place in PLACES},
    },
    "audio": {
        **{f"instrument heard as number {i + 1}": _heard(i) for i in range(MAX_SOUNDING)},
        "loudest instrument": _loudest,
        "somebody speaks": lambda scene: int(scene.voice_over),
    },
}


def labels(slot: str, scenes: Sequence[Scene]) -> npt.NDArray[np.int64]:
    """Class of each attribute of a slot, [N, attributes]."""
    return np.array([[of(scene) for of in ATTRIBUTES[slot].values()] for scene in scenes], np.int64)


def priors(known_NA: npt.NDArray[np.int64], asked_NA: npt.NDArray[np.int64]) -> list[float]:
    """How often the most frequent class of the known clips is right about the asked ones, by attribute."""
    return [
        float(np.mean(asked_N == Counter(known_N.tolist()).most_common(1)[0][0]))
        for known_N, asked_N in zip(known_NA.T, asked_NA.T, strict=True)
    ]
