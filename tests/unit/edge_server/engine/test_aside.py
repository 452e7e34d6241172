"""Work that gives way to everything else is done all the same."""

from __future__ import annotations

import os
import threading

import pytest

from edge_server.engine.aside import LATE_S, Aside
from tests.clock import FakeClock

idle = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="this system knows no class that gives way")


@idle
def test_its_thread_gives_way_and_that_which_asks_for_it_does_not() -> None:
    before = os.sched_getscheduler(0)
    assert Aside().run(lambda: os.sched_getscheduler(0)) == os.SCHED_IDLE
    assert os.sched_getscheduler(0) == before


def test_it_raises_what_the_work_raises() -> None:
    aside = Aside()

    def fail() -> None:
        raise KeyError("a row")

    for _ in range(2):
        with pytest.raises(KeyError, match="a row"):
            aside.run(fail)


def test_after_work_that_got_hardly_any_processor_the_next_does_not_give_way() -> None:
    clock = FakeClock()
    aside = Aside(clock)
    here, threads = threading.get_ident(), []

    def work(seconds: float) -> None:
        threads.append(threading.get_ident() == here)
        clock.advance(seconds)

    for seconds in (0.01, LATE_S * 1.1, LATE_S * 2, 0.01):
        aside.run(lambda seconds=seconds: work(seconds))  # type: ignore[misc]
    assert threads == [False, False, True, False]
