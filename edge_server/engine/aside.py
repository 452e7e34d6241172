"""Computes what nobody waits for with what everybody else leaves of the processor.

A step of background questions takes as long as one that somebody waits for; the system is told which is
which. Under SCHED_IDLE a thread that wakes up for an interactive question, or for the network, takes the
core at once, and finds that core as good as free when it looks for one. A niceness would not do: a nice
thread keeps its core for some milliseconds, and is waited behind while another core is free.

A thread may always go there, but only with privileges come back: so there is one for it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

LATE_S = 0.5
"""Work that took longer had hardly any processor: what comes after it does not give way [s]."""
_Result = TypeVar("_Result")


class Aside:
    """A thread that gives way to everything else. Used by one thread.

    Work goes on however busy the machine is: after some that took longer than :data:`LATE_S`, the next is
    done by the thread that asks for it.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, "tokenlink-aside", _give_way)
        self._was_late = False

    def run(self, work: Callable[[], _Result]) -> _Result:
        """Do it, and wait for it; raises what that raises."""
        if self._was_late:
            self._was_late = False
            return work()
        began_s = self._clock()
        try:
            return self._thread.submit(work).result()
        finally:
            self._was_late = self._clock() - began_s > LATE_S


def _give_way() -> None:
    # Systems that know no such class, or let nobody choose it: then it is a thread like others.
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
