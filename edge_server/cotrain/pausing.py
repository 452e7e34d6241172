"""Training waits while serving is busy: the queue of the server beside it is looked at between two steps."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import urllib.request
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

_DEPTH = re.compile(r"^tokenlink_queue_depth(?:\{[^}]*\})? ([0-9.eE+-]+)$", re.MULTILINE)
_LOOK_S = 0.5
_TIMEOUT_S = 2.0
_MAX_BYTES = 2**21


class QueueWatch:
    """Says when to pause.

    Args:
        url: of a server's ``/metrics``.
        most: questions that may wait there while training goes on.
        read: text behind a URL.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        url: str,
        most: int,
        *,
        read: Callable[[str], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url, self._most = url, most
        self._read = read or read_metrics
        self._clock, self._sleep = clock, sleep
        self._looked_s = -_LOOK_S
        self.paused_s = 0.0
        """What waiting took so far [s]."""

    async def idle(self) -> None:
        """Wait while more questions wait than may; a server that does not say counts as idle."""
        began = self._clock()
        while self._clock() - self._looked_s >= _LOOK_S:
            self._looked_s = self._clock()
            if await asyncio.to_thread(self._depth) <= self._most:
                break
            await self._sleep(_LOOK_S)
        self.paused_s += self._clock() - began

    def _depth(self) -> float:
        try:
            found = _DEPTH.search(self._read(self._url))
        except (OSError, ValueError) as error:
            logger.warning("the server beside does not say how long its queue is: %s", error)
            return 0.0
        return float(found[1]) if found else 0.0


def read_metrics(url: str) -> str:
    """The text behind an http URL.

    Raises:
        OSError: it cannot be had.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} is no http URL")
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310 - http alone
        return str(response.read(_MAX_BYTES).decode("utf-8", "replace"))
