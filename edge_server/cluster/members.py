"""Who is there: engines and doors of one model tell how they do, a few times a second.

What a door knows of the others is as old as :data:`EVERY_S` at most; who was not heard of for :data:`GONE_S`
is gone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from edge_server.cluster.connection import Connection
from protos.tokenlink.v1 import cluster_pb2 as cb

EVERY_S = 0.25
GONE_S = 2.0
_AHEAD = 1.5
"""Of the rows of all engines, so many questions are under way: those computed, and the next ones."""


class Members:
    """Those heard of lately.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, tuple[float, cb.Presence]] = {}

    def hear(self, data: bytes) -> None:
        """One tells how it does."""
        told = cb.Presence.FromString(data)
        self._heard[told.node] = (self._clock(), told)

    @property
    def present(self) -> list[cb.Presence]:
        """All of them."""
        since = self._clock() - GONE_S
        for node in [node for node, (at, _) in self._heard.items() if at < since]:
            del self._heard[node]
        return [told for _, told in self._heard.values()]

    @property
    def rows(self) -> int:
        """Questions that they compute together."""
        return sum(each.rows for each in self.present if each.ready)

    def busy_beside(self, node: str) -> int:
        """How many others have questions."""
        return sum(each.node != node and each.in_hand > 0 for each in self.present)


def window(engines: Members, doors: Members, node: str) -> int:
    """Questions that a door may have under way: its share of a little more than what engines compute at once.

    The rest wait at the door, where users take turns; what waits in the broker is taken as it came, and there
    is little of it.
    """
    return math.ceil(_AHEAD * engines.rows / (1 + doors.busy_beside(node)))


async def tell(connection: Connection, subject: str, told: cb.Presence) -> None:
    """Tell the others how this node does; what is lost is told again."""
    await connection.client.publish(subject, told.SerializeToString())
