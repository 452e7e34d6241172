"""Deadlines for what others send, which a process that stood still itself holds against nobody.

A process that is late, because it was stopped or had no processor, finds deadlines passed before it reads
what came in time. A deadline that is looked at late is put off by as much.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, Callable

_STOOD_STILL_S = 0.1
"""A deadline that is looked at so much later was not missed by who sends [s]."""


class SendersDeadline:
    """Calls when something has not come in time, unless this process was late itself.

    Args:
        loop: that runs.
        due_s: when, by the loop's clock [s].
        missed: called, at most once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due_s: float, missed: Callable[[], None]) -> None:
        self._loop, self._missed = loop, missed
        self._timer: asyncio.TimerHandle | None = None
        self._put_off_s = 0.0
        self.reschedule(due_s)

    def reschedule(self, due_s: float) -> None:
        """Be due then instead [s], and by as much later as this process was late so far; infinite: never."""
        self.cancel()
        self._due_s = due_s
        if not math.isinf(due_s):
            self._timer = self._loop.call_at(due_s + self._put_off_s, self._look)

    def cancel(self) -> None:
        """Never be missed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        late_s = self._loop.time() - self._due_s - self._put_off_s
        if late_s > _STOOD_STILL_S:
            # What came meanwhile has not been read yet: once more as long, from now on.
            self._put_off_s += 2.0 * late_s
            self.reschedule(self._due_s)
        else:
            self._missed()


@contextlib.asynccontextmanager
async def sent_within(seconds: float) -> AsyncGenerator[SendersDeadline]:
    """Wait for what others send, so long at most [s]; infinite: however long.

    Raises:
        TimeoutError: it did not come.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as timeout:
        deadline = SendersDeadline(loop, loop.time() + seconds, lambda: timeout.reschedule(loop.time()))
        try:
            yield deadline
        finally:
            deadline.cancel()
