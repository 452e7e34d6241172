"""A token bucket: a lasting rate, with bursts up to what it holds. Used wherever something is rationed."""

from __future__ import annotations


class TokenBucket:
    """Holds up to ``capacity`` and fills at ``per_s``.

    Args:
        capacity: most that can be taken at once.
        per_s: how fast it fills.
        now_s: on the clock that :meth:`wait_s` and :meth:`take` are called with.
    """

    __slots__ = ("_at_s", "_capacity", "_level", "_per_s")

    def __init__(self, capacity: float, per_s: float, now_s: float) -> None:
        self._capacity = capacity
        self._per_s = per_s
        self._level = capacity
        self._at_s = now_s

    def wait_s(self, amount: float, now_s: float) -> float:
        """Seconds until the amount can be taken; 0: now. More than it holds can be taken once it is full."""
        self._fill(now_s)
        missing = min(amount, self._capacity) - self._level
        return max(missing, 0.0) / self._per_s

    def take(self, amount: float, now_s: float) -> None:
        """Take an amount; what is not there yet has to fill before anything else can be taken."""
        self._fill(now_s)
        self._level -= amount

    def is_full(self, now_s: float) -> bool:
        """Whether forgetting it would change nothing."""
        self._fill(now_s)
        return self._level >= self._capacity

    @property
    def level(self) -> float:
        """What it held at :attr:`at_s`."""
        return self._level

    @property
    def at_s(self) -> float:
        """When it was looked at last."""
        return self._at_s

    def restore(self, level: float, at_s: float) -> None:
        """Hold what one of the same bounds held, at a time that it was looked at."""
        self._level, self._at_s = level, at_s

    def _fill(self, now_s: float) -> None:
        self._level = min(self._level + (now_s - self._at_s) * self._per_s, self._capacity)
        self._at_s = now_s
