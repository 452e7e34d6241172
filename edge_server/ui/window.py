"""What was observed during the last minutes, and how it was distributed."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Quantiles:
    """How observed values are distributed.

    Attributes:
        count: values that were observed.
        p50: their median; not a number where there are none.
        p99: the value that 99 in 100 do not exceed; likewise.
    """

    count: int
    p50: float
    p99: float


class Window:
    """The values of the last ``length_s`` seconds, at most ``max_values`` of them. Thread-safe.

    Args:
        length_s: how long a value counts [s].
        max_values: bound on the memory; the oldest go first.
        clock: monotonic seconds.
    """

    def __init__(self, length_s: float, max_values: int, clock: Callable[[], float]) -> None:
        self._length_s = length_s
        self._values: deque[tuple[float, float]] = deque(maxlen=max_values)
        self._clock = clock
        self._lock = threading.Lock()

    def observe(self, value: float) -> None:
        """Take a value; one that is not finite is left out."""
        if math.isfinite(value):
            with self._lock:
                self._values.append((self._clock(), value))

    def values(self) -> list[float]:
        """What counts now, oldest first."""
        oldest = self._clock() - self._length_s
        with self._lock:
            while self._values and self._values[0][0] < oldest:
                self._values.popleft()
            return [value for _, value in self._values]

    def per_second(self, seconds: int) -> list[int]:
        """How many values came in each of the last so many whole seconds, the present one last."""
        now = self._clock()
        counts = [0] * seconds
        with self._lock:
            for at, _ in self._values:
                age = int(now) - int(at)
                if 0 <= age < seconds:
                    counts[seconds - 1 - age] += 1
        return counts

    def quantiles(self) -> Quantiles:
        """How they are distributed; by nearest rank, so that each quantile is a value that was seen."""
        values = sorted(self.values())
        if not values:
            return Quantiles(0, math.nan, math.nan)
        return Quantiles(len(values), _nearest_rank(values, 0.50), _nearest_rank(values, 0.99))


def _nearest_rank(ordered: list[float], part: float) -> float:
    return ordered[max(math.ceil(part * len(ordered)), 1) - 1]
