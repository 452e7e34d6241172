"""How far the clocks of those who share are from the server's: kept with the scenes that were put on it.

Forgotten at a restart, the first window after it would be told by another start than the last before it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

MAX_CLOCKS = 10_000
"""Senders whose clocks are known; the one that was silent longest is forgotten."""


@dataclass(frozen=True)
class SenderClock:
    """What is known of a sender's clock.

    Attributes:
        sender: whose, as :func:`sender_key` names it.
        ahead_s: how far the server's is ahead of it [s].
        latest_s: the latest time that it told, by itself [s].
    """

    sender: str
    ahead_s: float
    latest_s: float


def sender_key(device_id: str) -> str:
    """What a sender goes by where scenes are kept: whose scenes were deleted is not named there.

    Args:
        device_id: as its session knows it.
    """
    return hashlib.sha256(f"clock\n{device_id}".encode()).hexdigest()[:16]
