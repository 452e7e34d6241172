"""How the kernel schedules this process, and that tests leave it as it was."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def same_scheduling() -> Iterator[list[int]]:
    """Whoever computes within it is scheduled afterwards as before; yields the class that it was changed to.

    SVT-AV1 puts the thread that calls it into SCHED_FIFO at the highest priority where it may, as root may,
    and leaves it there. Every process that a test starts later would inherit that, and none of them would
    ever let others of the machine compute.
    """
    changed: list[int] = []
    if not hasattr(os, "sched_getscheduler"):
        yield changed
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield changed
    finally:
        if (now := os.sched_getscheduler(0)) != policy:
            changed.append(now)
            os.sched_setscheduler(0, policy, parameters)
