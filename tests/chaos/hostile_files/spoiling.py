"""Bytes of a file, spoilt: flipped, cut, doubled, or a size somewhere replaced by one that is not."""

from __future__ import annotations

import random
from collections.abc import Callable

_SIZES = (0, 1, 7, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
_MOST_TIMES = 8


def log_uniform(rng: random.Random, least: int, most: int) -> int:
    """A count whose size is drawn, not its value: small ones as often as large ones."""
    drawn: float = least * (most / least) ** rng.random()
    return round(drawn)


def spoilt(data: bytes, rng: random.Random) -> bytes:
    """The same, hurt a few times."""
    hurt = bytearray(data)
    for _ in range(rng.randrange(1, _MOST_TIMES)):
        if len(hurt) < 16:
            break
        rng.choice(_WAYS)(hurt, rng)
    return bytes(hurt) or data[:1]  # of nothing at all, a watched folder waits for more


def _place(hurt: bytearray, rng: random.Random) -> int:
    """Where; heads are of more use than what they are about."""
    most = len(hurt) - 8
    return rng.randrange(min(most, 512)) if rng.random() < 0.6 else rng.randrange(most)


def _flip(hurt: bytearray, rng: random.Random) -> None:
    hurt[_place(hurt, rng)] ^= 1 << rng.randrange(8)


def _resize(hurt: bytearray, rng: random.Random) -> None:
    order = rng.choice(("big", "little"))
    at = _place(hurt, rng)
    hurt[at : at + 4] = rng.choice(_SIZES).to_bytes(4, order)  # type: ignore[arg-type]


def _cut(hurt: bytearray, rng: random.Random) -> None:
    at = _place(hurt, rng)
    del hurt[at : at + rng.randrange(1, 64)]


def _double(hurt: bytearray, rng: random.Random) -> None:
    at, size = _place(hurt, rng), rng.randrange(1, 4096)
    hurt[at:at] = bytes(hurt[at : at + size])


def _end_early(hurt: bytearray, rng: random.Random) -> None:
    del hurt[rng.randrange(16, len(hurt)) :]


_WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _resize,
    _cut,
    _double,
    _end_early,
)
