"""New devices one after another, when all come at once: after a restart, or when power is back.

Who comes too early is told when its turn will be, each a little later than the one before:
the crowd comes back as a queue. Devices that renew what they have do not pass here.
"""

from __future__ import annotations

from collections.abc import Callable

from edge_server.cell.token_bucket import TokenBucket
from edge_server.errors import AdmissionRefusedError

MAX_DELAY_S = 30.0
"""Nobody is told to wait longer [s]."""


class Arrivals:
    """Bounds how many devices arrive per second: within any second at most ``burst`` plus ``per_s``.

    Args:
        per_s: lasting rate.
        burst: at once, after a quiet spell.
        clock: monotonic seconds.
    """

    def __init__(self, per_s: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_s = per_s
        self._clock = clock
        now = clock()
        self._bucket = TokenBucket(float(burst), per_s, now)
        self._last_turn_at = now

    def admit(self) -> None:
        """Let one in.

        Raises:
            AdmissionRefusedError: too many arrive; it says when to come again.
        """
        now = self._clock()
        if self._bucket.wait_s(1.0, now) == 0.0:
            self._bucket.take(1.0, now)
            return
        self._last_turn_at = max(self._last_turn_at, now) + 1.0 / self._per_s
        raise AdmissionRefusedError(
            f"more than {self._per_s:g} devices a second open a session",
            reason="arrivals",
            retry_delay_s=min(self._last_turn_at - now, MAX_DELAY_S),
        )
