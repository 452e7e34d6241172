"""Finds the vectors nearest to one, among a million, without looking at them: by the signs of projections.

    vector ─▶ less the mean ─▶ 256 random projections ─▶ signs, 32 bytes ─ XOR, popcount ─▶ candidates

The share of signs in which two vectors differ estimates the angle between them (Charikar 2002); whoever asks
puts the candidates in order by the vectors themselves. Taking the mean off first makes the signs tell more,
as vectors of one space lean to one side. In memory: 60 bytes a scene.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from edge_server.scenes.scene import Vector
from edge_server.scenes.store import Wanted, matches

BITS = 256
_SEED = 20_505_841
_WORDS = BITS // 64
_FIRST_ROOM = 1024
SAMPLE = 4096
"""Vectors that a mean is taken of, at most."""

Rows = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]


class SignIndex:
    """The signs of one space's vectors, with what scenes are filtered by.

    Args:
        dim: of the vectors.
        mean: of vectors of the space, [dim].
    """

    def __init__(self, dim: int, mean: Vector) -> None:
        self.dim = dim
        self._mean = np.asarray(mean, np.float32)
        rng = np.random.default_rng(_SEED)
        self._projection = rng.standard_normal((dim, BITS)).astype(np.float32)
        self._used = 0
        self._devices: dict[str, int] = {}
        self._place: dict[int, int] = {}
        self._signs = np.zeros((_FIRST_ROOM, _WORDS), np.uint64)
        self._numbers = np.zeros(_FIRST_ROOM, np.int64)
        self._device = np.zeros(_FIRST_ROOM, np.int32)
        self._start_s = np.zeros(_FIRST_ROOM, np.float64)
        self._end_s = np.zeros(_FIRST_ROOM, np.float64)

    def __len__(self) -> int:
        return self._used

    @property
    def size_bytes(self) -> int:
        """What it holds in memory, but for the places of numbers."""
        arrays = (self._signs, self._numbers, self._device, self._start_s, self._end_s)
        return sum(array.nbytes for array in arrays)

    def add(self, number: int, vector: Vector, device: str, start_s: float, end_s: float) -> None:
        """Take a scene in, by the number that it is found by."""
        self.add_all(np.array([number]), np.asarray(vector)[None], [device], [start_s], [end_s])

    def add_all(
        self,
        numbers: Integers,
        vectors_ND: Rows,
        devices: list[str],
        starts_s: list[float],
        ends_s: list[float],
    ) -> None:
        """Take many in."""
        first, last = self._used, self._used + len(numbers)
        if last > len(self._numbers):
            self._grow(max(last, 2 * len(self._numbers)))
        self._signs[first:last] = self._signs_of(vectors_ND)
        self._numbers[first:last] = numbers
        self._device[first:last] = [self._devices.setdefault(name, len(self._devices)) for name in devices]
        self._start_s[first:last], self._end_s[first:last] = starts_s, ends_s
        self._place.update(zip(map(int, numbers), range(first, last), strict=True))
        self._used = last

    def remove(self, number: int) -> None:
        """Forget a scene; one that is not here does not matter."""
        place = self._place.pop(number, None)
        if place is None:
            return
        self._used -= 1
        last = self._used
        if place != last:
            for array in (self._signs, self._numbers, self._device, self._start_s, self._end_s):
                array[place] = array[last]
            self._place[int(self._numbers[place])] = place
        # Nothing of a deleted scene stays behind.
        self._signs[last] = 0

    def nearest(self, vector: Vector, wanted: Wanted, most: int) -> Integers:
        """Numbers of scenes that are likely to be the nearest, in no order."""
        among = self._among(wanted)
        signs = self._signs[: self._used] if among is None else self._signs[among]
        if not len(signs):
            return np.zeros(0, np.int64)
        asked = self._signs_of(np.asarray(vector, np.float32)[None])[0]
        apart = np.bitwise_count(signs ^ asked).sum(axis=1, dtype=np.uint16)
        best = np.argpartition(apart, most - 1)[:most] if most < len(apart) else np.arange(len(apart))
        return self._numbers[best if among is None else among[best]]

    def _among(self, wanted: Wanted) -> Integers | None:
        """Places of what is wanted; None: all."""
        mask: npt.NDArray[np.bool_] | None = None
        for patterns in (wanted.devices, wanted.readable):
            if patterns is None or "*" in patterns:
                continue
            seen = np.array([matches(patterns, name) for name in self._devices], np.bool_)
            chosen = seen[self._device[: self._used]] if len(seen) else np.zeros(0, np.bool_)
            mask = chosen if mask is None else mask & chosen
        if not math.isinf(wanted.since_s):
            later = self._end_s[: self._used] > wanted.since_s
            mask = later if mask is None else mask & later
        if not math.isinf(wanted.until_s):
            earlier = self._start_s[: self._used] < wanted.until_s
            mask = earlier if mask is None else mask & earlier
        return None if mask is None else np.flatnonzero(mask)

    def _signs_of(self, vectors_ND: Rows) -> npt.NDArray[np.uint64]:
        projected = (np.asarray(vectors_ND, np.float32) - self._mean) @ self._projection
        return np.packbits(projected > 0, axis=1).view(np.uint64)

    def _grow(self, room: int) -> None:
        for name in ("_signs", "_numbers", "_device", "_start_s", "_end_s"):
            old: npt.NDArray[np.generic] = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[: self._used] = old[: self._used]
            setattr(self, name, new)
