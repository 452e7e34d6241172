"""How long to wait before trying again: exponential, with full jitter.

Devices that lost the same server at the same moment must not come back at the same moment.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """A retry policy."""

    retries: int = 6
    """Tries after the first."""
    base_s: float = 0.2
    """The first wait lies between nothing and this [s]."""
    cap_s: float = 10.0
    """No wait of ours is longer [s]."""

    def delay_s(self, retry: int, rng: random.Random, floor_s: float = 0.0) -> float:
        """Wait before a retry [s].

        Args:
            retry: 1 for the first.
            rng: where the jitter comes from.
            floor_s: what the server asked for; the jitter comes on top of it [s].
        """
        return floor_s + rng.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(retry - 1, 60)))
