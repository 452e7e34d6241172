"""The corpus: every family in turn, each file from a generator of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.hostile_files import boxes, chunks, pictures, streams, tags
from tests.chaos.hostile_files.spoiling import spoilt
from tests.hostile_media import BOMBS, Kind

Maker = Callable[[random.Random], bytes]

FAMILIES: Sequence[tuple[str, Kind, Maker]] = (
    *boxes.MAKERS,
    *chunks.MAKERS,
    *tags.MAKERS,
    *streams.MAKERS,
    *pictures.MAKERS,
)
"""Name, what its files say they are, and what makes one."""

MAX_BYTES = 12 * 2**20
"""What the server takes of one file; longer ones are refused before anything looks at them."""
_SPOILT = 0.3
_BOMBS = 0.08


@dataclass(frozen=True)
class HostileFile:
    """A file that a stranger may send.

    Attributes:
        name: its number and its family.
        kind: what it says it is.
        data: its bytes.
    """

    name: str
    kind: Kind
    data: bytes


def hostile_file(number: int, seed: int) -> HostileFile:
    """The file of this number; the same each time."""
    rng = random.Random(f"{seed}/{number}")
    if rng.random() < _BOMBS:
        name = rng.choice(list(BOMBS))
        return HostileFile(f"{number}: {name}", BOMBS[name].kind, BOMBS[name].make()[:MAX_BYTES])
    name, kind, make = FAMILIES[number % len(FAMILIES)]
    data = make(rng)
    if rng.random() < _SPOILT:
        name, data = f"{name}, spoilt", spoilt(data, rng)
    return HostileFile(f"{number}: {name}", kind, data[:MAX_BYTES])


def hostile_files(count: int, seed: int) -> Iterator[HostileFile]:
    """So many of them, one after the other."""
    return (hostile_file(number, seed) for number in range(count))
