"""How many bytes may go out in an hour: in any hour, across restarts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable

HOUR_S = 3600.0
_SLACK_S = 5.0
"""Of what is counted, something may go out this much later, where a process is killed between the two."""


class Budget:
    """Counts what was shared within the last hour.

    Args:
        bytes_per_hour: bound; None: there is none.
        clock: seconds; goes on across restarts.
    """

    def __init__(self, bytes_per_hour: int | None, clock: Callable[[], float]) -> None:
        self._most = bytes_per_hour
        self._clock = clock
        self._spent: deque[tuple[float, int]] = deque()
        self._sum = 0

    def allows(self, size_bytes: int) -> bool:
        """Whether so much may go out now."""
        self._forget()
        return self._most is None or self._sum + size_bytes <= self._most

    def spend(self, size_bytes: int) -> None:
        """So much goes out."""
        if self._most is not None:
            self._spent.append((self._clock(), size_bytes))
            self._sum += size_bytes

    def postpone(self) -> None:
        """What was spent last goes out only now."""
        if self._spent:
            self._spent[-1] = (self._clock(), self._spent[-1][1])

    def note(self) -> bytes:
        """What a later process needs to know."""
        self._forget()
        return json.dumps(list(self._spent)).encode()

    def resume(self, note: bytes) -> None:
        """Go on from what :meth:`note` gave; from nothing, where that says nothing."""
        try:
            spent = [(float(at_s), int(size)) for at_s, size in json.loads(note)]
        except (ValueError, TypeError):
            return
        # A clock that went back would keep them for ever.
        now_s = self._clock()
        self._spent = deque((min(at_s, now_s), size) for at_s, size in spent)
        self._sum = sum(size for _, size in self._spent)

    def _forget(self) -> None:
        since_s = self._clock() - HOUR_S - _SLACK_S
        while self._spent and self._spent[0][0] <= since_s:
            self._sum -= self._spent.popleft()[1]
