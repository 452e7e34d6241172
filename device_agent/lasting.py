"""A clock for what has to be measured in days: it goes on while the device sleeps, and no setting moves it.

A device without a clock battery boots in 1970 until the network tells it the time; its wall clock says
nothing about how long something has waited. The boot clock does, until the next boot. So time here is the
boot clock's, carried from boot to boot by an *anchor* that is kept beside the data: what the wall clock said
then and says now is used for nothing but the time between two boots, and only where both can be right.

    boot 1                        off                    boot 2
    anchor ── boot clock ──▶ anchor ── wall clock ──▶ now ── boot clock ──▶
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CREDIBLE_FROM_S = 1_700_000_000.0
"""A wall clock that says an earlier time (November 2023) was not set since the device booted."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_clock() -> float:
    """Seconds since boot, sleep included; where the system has no such clock, monotonic seconds."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def this_boot() -> str:
    """Names the present boot; empty where the system does not say."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


class LastingClock:
    """Seconds that only go forward, across reboots too. About since the Unix epoch: what the wall clock said
    when its data began.

    Args:
        boot_clock: seconds since boot.
        wall_clock: seconds since the Unix epoch, as far as the system knows.
        boot_id: of this boot; empty: unknown, then every process counts as one of its own.
    """

    def __init__(
        self,
        *,
        boot_clock: Callable[[], float] = boot_clock,
        wall_clock: Callable[[], float] = time.time,
        boot_id: str | None = None,
    ) -> None:
        self._boot_clock = boot_clock
        self._wall_clock = wall_clock
        self._boot_id = this_boot() if boot_id is None else boot_id
        self._offset_s = wall_clock() - boot_clock()

    def __call__(self) -> float:
        """Now [s]."""
        return self._boot_clock() + self._offset_s

    @property
    def is_set(self) -> bool:
        """Whether the wall clock can be right."""
        return self._wall_clock() >= CREDIBLE_FROM_S

    def wall_s(self, at_s: float) -> float:
        """When that was, on the wall clock as it is set now [s since the Unix epoch]."""
        return at_s + self._wall_clock() - self()

    def anchor(self) -> bytes:
        """What a later process needs to go on from here; to be kept with the data, and again now and then."""
        return json.dumps(
            {
                "boot": self._boot_id,
                "boot_s": self._boot_clock(),
                "wall_s": self._wall_clock(),
                "at_s": self(),
            }
        ).encode()

    def resume(self, anchor: bytes) -> bool:
        """Go on from an anchor.

        Returns:
            False: it says nothing, and this clock stays as it was made.
        """
        kept = _Anchor.read(anchor)
        if kept is None:
            return False
        self._offset_s = kept.at_s + self._passed_s(kept) - self._boot_clock()
        return True

    def after(self, anchor: bytes) -> float | None:
        """What the clock that gave this anchor says now; this clock stays as it is.

        After another boot at least as long has passed as this boot lasts, whatever is not known of the time
        before: what has a time to live does not wait for a clock to be set.

        Returns:
            None: the anchor says nothing.
        """
        kept = _Anchor.read(anchor)
        if kept is None:
            return None
        passed_s = self._passed_s(kept)
        if self._boot_id and kept.boot_id not in ("", self._boot_id):
            passed_s = max(passed_s, self._boot_clock())
        return kept.at_s + passed_s

    def _passed_s(self, kept: _Anchor) -> float:
        """Seconds since an anchor was given, as far as they are known."""
        now_boot_s, now_wall_s = self._boot_clock(), self._wall_clock()
        if self._boot_id and kept.boot_id == self._boot_id and kept.boot_s <= now_boot_s:
            return now_boot_s - kept.boot_s
        both_set = min(kept.wall_s, now_wall_s) >= CREDIBLE_FROM_S
        return max(now_wall_s - kept.wall_s, 0.0) if both_set else 0.0


@dataclass(frozen=True)
class _Anchor:
    boot_id: str
    boot_s: float
    wall_s: float
    at_s: float

    @classmethod
    def read(cls, anchor: bytes) -> _Anchor | None:
        try:
            kept = json.loads(anchor)
            found = cls(str(kept["boot"]), *(float(kept[name]) for name in ("boot_s", "wall_s", "at_s")))
        except (ValueError, KeyError, TypeError):
            return None
        return found if all(map(math.isfinite, (found.boot_s, found.wall_s, found.at_s))) else None
