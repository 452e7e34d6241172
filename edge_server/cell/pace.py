"""How often a cell is shared out anew, and when by a whole search.

Whatever finds an allocation holds the interpreter, and answers wait for it: so its share of the time is
bounded. A search and what is quick each have half of that share. A device that moves amid the rest after a
search is followed without one, and the search comes later.
"""

from __future__ import annotations

import math
from collections.abc import Callable


class Pace:
    """Of one allocator.

    Args:
        every_s: an allocation is found at most this often [s].
        share: of the time, what finding them may take, above 0, at most 1.
        has_quick: whether there is anything quicker than the search.
        clock: monotonic seconds.
    """

    def __init__(self, every_s: float, share: float, *, has_quick: bool, clock: Callable[[], float]) -> None:
        self._every_s = every_s
        self._share = share / 2.0 if has_quick else share
        self._has_quick = has_quick
        self._clock = clock
        self._search_from_s = -math.inf
        self._rough = False

    @property
    def is_quick(self) -> bool:
        """Whether there is no time for a search yet, and something quicker."""
        return self._has_quick and self._clock() < self._search_from_s

    @property
    def owes_a_search(self) -> bool:
        """Whether what holds was found quickly, and there is time for a search."""
        return self._rough and not self.is_quick

    def look_within_s(self, within_s: float) -> float:
        """How long to wait for something to change, of so long at most: until a search that is owed [s]."""
        if not self._rough:
            return within_s
        return min(within_s, max(self._search_from_s - self._clock(), 0.0))

    def ended(self, took_s: float, *, quick: bool) -> float:
        """An allocation was found, by a search or quickly, and took so long; how long to rest now [s]."""
        rest_s = took_s / self._share - took_s
        self._rough = quick
        if self._has_quick and not quick:
            self._search_from_s, rest_s = self._clock() + rest_s, 0.0
        return max(self._every_s, rest_s)
